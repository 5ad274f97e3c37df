"""Trained networks at work: predictions on any images, and networks exported to where this package is not."""
