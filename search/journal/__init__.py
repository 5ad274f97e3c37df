"""What happened in a study: events, the log that holds them, and the records folded from them."""
