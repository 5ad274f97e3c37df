"""Augmentation in batches, on the model's device."""
