"""What to try next and what to stop: pure deciders, without Ray."""
