"""The test split: this module alone opens it, and the search may not import it. It is used once, at the end."""

from __future__ import annotations

from pathlib import Path

from trainables.config import Data
from trainables.data.images import Images, open_images, prepare

__all__ = ["open_test"]


def open_test(data: Data, cache: Path) -> Images:
    """All test images of `data`, prepared in the folder `cache` if they are not yet. The sample caps don't apply.

    Raises:
        ConfigError: as `trainables.data.store.prepare`.
    """
    store = prepare(data, cache)
    return open_images(store, store.directory / "test.arrow", data)
