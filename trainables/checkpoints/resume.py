"""Continuing from a checkpoint: whatever does not fit the trial is one ConfigError. Imports no torch.

When a checkpoint is read, its checksums prove that the bytes are those that were written, and its config that they are
this trial's. What can still be wrong is a state saved by another version of this package or of torch, which strict
loading finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainables.config import ConfigError

__all__ = ["translate_mismatch"]

LONGEST_REASON = 300  # characters; torch lists every tensor that does not fit
NO_MEMORY = ("out of memory", "allocate memory")  # as torch says it of a GPU and of the CPU


@contextmanager
def translate_mismatch() -> Iterator[None]:
    """Re-raise what loading a state that does not fit raises as a ConfigError.

    Raises:
        ConfigError: saying what does not fit.
    """
    try:
        yield
    except ConfigError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if any(text in str(error) for text in NO_MEMORY):
            raise
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        rule = f"must hold the state of this trial as this version of the package saves it ({reason})"
        raise ConfigError.single("checkpoint", type(error).__name__, rule) from error
