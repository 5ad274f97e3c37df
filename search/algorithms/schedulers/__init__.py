"""Schedulers: which trials stop early, or pause, after a result."""
