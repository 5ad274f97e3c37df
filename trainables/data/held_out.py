"""The test split: this module alone opens it, and the search may not import it. It is used once, at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.config import ConfigError, Data
from trainables.config.images import canonical_source, split_source
from trainables.data.folders import ImageFolder
from trainables.data.images import Images, open_images, prepare
from trainables.data.names import is_junk, split_of_folder, split_of_table
from trainables.data.parquet import ParquetFiles
from trainables.data.source import Contents, Row
from trainables.data.sources import open_source
from trainables.data.store import PreparedData

__all__ = ["open_test", "open_test_alone"]


def open_test(data: Data, cache: Path, samples: int | None = None) -> Images:
    """The test images of `data`, prepared in the folder `cache` if they are not yet: all, or stratified `samples`.

    Raises:
        ConfigError: as `trainables.data.store.prepare`.
    """
    return _test_of(prepare(data, cache), data, samples)


def open_test_alone(
    data: Data, cache: Path, trained_on: str | None, samples: int | None = None
) -> tuple[Images, PreparedData] | None:
    """All images of a folder or table that holds nothing to train on: test images alone, or without any splits.

    None if it has training images, which it then has a test split beside.

    Args:
        data: the source.
        cache: where it is prepared.
        trained_on: the fingerprint of the images that the network saw. A copy of them is no test set: the split that
            was held out of them is.
        samples: how many at most.

    Raises:
        ConfigError: as `trainables.data.store.prepare`.
    """
    source = _alone(data)
    if source is None or (trained_on is not None and trained_on == _fingerprint(data, cache)):
        return None
    # There is nothing to cross-validate on, nor to split; and a list of images to leave out is of other images.
    data = data.model_copy(update={"folds": None, "fold": 0, "repeat": 0, "group_by": None, "exclude": None})
    store = prepare(data, cache, _AllTest(source))
    return _test_of(store, data, samples), store


def _test_of(store: PreparedData, data: Data, samples: int | None) -> Images:
    return open_images(store, store.directory / "test.arrow", data, samples)


def _fingerprint(data: Data, cache: Path) -> str | None:
    try:
        return prepare(data, cache).fingerprint
    except ConfigError:  # nothing that could be trained on
        return None


def _alone(data: Data) -> ImageFolder | ParquetFiles | None:
    """The source, if none of its images are said to be for training; its files are all of one split then."""
    kind, path = split_source(canonical_source(data.source))
    if kind == "imagefolder" and Path(path).is_dir():
        folders = [f for f in sorted(Path(path).iterdir()) if f.is_dir() and not is_junk(f.name)]
        if len(folders) == 1 and split_of_folder(folders[0].name) in ("val", "test"):
            path = str(folders[0])
        found: Any = ImageFolder.scan(Path(path))
        named = {split_of_folder(part) for file in found.files for part in file.path.relative_to(path).parts[:-1]}
    elif kind == "parquet":
        found = open_source(data.source, data.columns)
        if "train" in found.column_splits():
            return None
        named = {split_of_table(part) for file in found.files for part in file.path.relative_to(path).parts}
    else:
        return None
    splits = {file.split for file in found.files}
    if splits not in ({"train"}, {"test"}) or (splits == {"train"} and "train" in named):
        return None
    files = tuple(replace(file, split="train") for file in found.files)
    return replace(found, files=files)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _AllTest:
    """A source as a store wants it, with every image in the test split.

    A store has a train and a val split, too: the first image of each class stands there, and nobody reads it.
    """

    source: ImageFolder | ParquetFiles

    def signature(self) -> Any:
        return ["test images alone", self.source.signature()]

    def contents(self, downloads: Path) -> Contents:
        source = self.source
        contents = source.unchecked() if isinstance(source, ImageFolder) else source.contents(downloads)

        def rows() -> Iterator[Row]:
            seen: set[int] = set()
            for row in contents.rows():
                if row.label not in seen:
                    seen.add(row.label)
                    yield replace(row, split="train")
                    yield replace(row, split="val")
                yield replace(row, split="test")

        return replace(contents, rows=rows, count=contents.count + 2 * len(contents.class_names), repeated=True)
