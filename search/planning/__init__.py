"""What a search will need, checked and estimated before any trial starts."""
