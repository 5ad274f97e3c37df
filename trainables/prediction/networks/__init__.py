"""Definitions that travel with exported weights, one file a kind of network; each needs torch and torchvision alone.

A file is copied beside the weights as `network.py`. State-dict names are those of `trainables.models`, which trains the
same networks with code that is faster to train; every export is held against them before it is done.
"""
