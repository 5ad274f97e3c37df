"""How far a proportion that was counted, such as an accuracy, may be from the true one."""

from __future__ import annotations

import math

__all__ = ["wilson_interval"]

Z = 1.959964  # what a standard normal variable exceeds with probability 2.5 %


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of `hits` out of `count` (Wilson 1927, Probable inference).

    scipy.stats has it, too, and takes half a second to load, which every scoring of a search would wait for.
    """
    middle = hits + Z**2 / 2
    half = Z * math.sqrt(hits * (count - hits) / count + Z**2 / 4)
    return max(0.0, (middle - half) / (count + Z**2)), min(1.0, (middle + half) / (count + Z**2))
