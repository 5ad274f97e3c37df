"""From the words of `data.source` to the source they name. Imports no torch until a download needs it."""

from __future__ import annotations

from pathlib import Path

from trainables.config.paths import canonical_source
from trainables.data.builtin import Cifar, Digits, Synthetic
from trainables.data.folders import ImageFolder
from trainables.data.parquet import ParquetFiles
from trainables.data.source import Source

__all__ = ["canonical_source", "open_source"]


def open_source(source: str) -> Source:
    """Find what a `data.source` names.

    Raises:
        ConfigError: if its path is missing, or holds no images in the layout expected.
    """
    kind, _, path = canonical_source(source).partition(":")
    match kind:
        case "cifar10":
            return Cifar(10)
        case "cifar100":
            return Cifar(100)
        case "digits":
            return Digits()
        case "synthetic":
            return Synthetic()
        case "imagefolder":
            return ImageFolder.scan(Path(path))
        case "parquet":
            return ParquetFiles.scan(Path(path))
        case _:
            raise ValueError(f"{source!r} has not been checked by trainables.config.Data")
