"""Random streams named by what they are for, so that stopping, resuming or reordering never shifts one."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["derived_seed"]


def derived_seed(seed: int, stream: str, *counters: int) -> int:
    """A 63-bit seed for one use (`stream`, with an epoch or a trial number as counter) of a user's seed.

    Streams are independent in the sense of numpy's SeedSequence (O'Neill's seed_seq_fe).
    """
    words = np.random.SeedSequence([seed, zlib.crc32(stream.encode()), *counters]).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1
