"""Images: sources, one memory-mapped Arrow store, splits."""
