"""Searchers: which hyperparameters to try next."""
