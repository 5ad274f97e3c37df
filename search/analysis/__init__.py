"""What the records of a study say: its health checks, and its curves under other stopping rules."""
