"""Images in folders: PATH/train/CLASS/..., with PATH/val and PATH/test where there are any, or PATH/CLASS/..."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.config import ConfigError, Problem
from trainables.data.source import Contents, Row, Split, check_classes, listed

__all__ = ["EXTENSIONS", "ImageFile", "ImageFolder"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Files of these kinds are listed too: reported as unreadable rather than skipped silently.
_OTHER_IMAGES = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".ppm", ".pgm", ".tga", ".psd")

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def _fail(error: OSError) -> None:
    raise error


def _image_files(folder: Path) -> list[Path]:
    """Every image below `folder`, links followed. Hidden files are no images (macOS leaves `._a.jpg`)."""
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_fail):
        stat = os.stat(parent)
        if (stat.st_dev, stat.st_ino) in entered:  # a link back to a parent
            folders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS + _OTHER_IMAGES
        ]
    return found


def _readable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")  # file names need not be UTF-8; what we write has to


@dataclass(frozen=True, slots=True, order=True)
class ImageFile:
    """An image that was listed but not read; a file that could not be looked at has -1 bytes."""

    split: Split
    class_name: str
    path: Path
    nbytes: int
    modified_ns: int

    @classmethod
    def at(cls, split: Split, class_name: str, path: Path) -> ImageFile:
        try:
            stat = path.stat()
        except (
            OSError
        ):  # a broken link: reading it fails as well, and that is reported with the other unreadable images
            return cls(split, class_name, path, -1, -1)
        return cls(split, class_name, path, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class ImageFolder:
    """A folder tree of images, in a fixed order."""

    path: Path
    files: tuple[ImageFile, ...]

    @classmethod
    def scan(cls, path: Path) -> ImageFolder:
        """List the images of `path`.

        Raises:
            ConfigError: if there is no such folder, no class folder, or a class folder without images.
        """
        source = f"imagefolder:{path}"
        if not path.is_dir():
            raise ConfigError.single("data.source", source, "must name an existing folder")
        try:
            return cls._scan(path, source)
        except OSError as error:
            rule = f"must be readable: {error.strerror} ({error.filename})"
            raise ConfigError.single("data.source", source, rule) from error

    @classmethod
    def _scan(cls, path: Path, source: str) -> ImageFolder:
        folders = _visible_folders(path)
        splits = {folder: _SPLIT_FOLDERS[folder.name] for folder in folders if folder.name in _SPLIT_FOLDERS}
        if "train" not in splits.values():
            if splits and len(splits) == len(folders):
                raise ConfigError.single("data.source", source, "must have a folder `train` beside its other splits")
            splits = {path: "train"}  # no split folders: every folder is a class
        files: list[ImageFile] = []
        empty: list[str] = []
        for root, split in splits.items():
            classes = _visible_folders(root)
            if split == "train" and not classes:
                loose = " (images stand there without one)" if _image_files(root) else ""
                rule = f"must hold one folder of images per class in {root}, and has none{loose}"
                raise ConfigError.single("data.source", source, rule)
            for folder in classes:
                images = _image_files(folder)
                files += [ImageFile.at(split, _readable(folder.name), image) for image in images]
                if split == "train" and not images:
                    empty.append(folder.name)
        if not files:
            raise ConfigError.single("data.source", source, f"must hold images ({', '.join(EXTENSIONS)}), and has none")
        if empty:
            rule = f"has class folders without images: {listed(empty)}; fill or remove them"
            raise ConfigError([Problem("data.source", source, rule)])
        return cls(path, tuple(sorted(files)))

    def _name(self, file: ImageFile) -> str:
        return _readable(str(file.path.relative_to(self.path)))

    def signature(self) -> Any:
        files = [(f.split, f.class_name, self._name(f), f.nbytes, f.modified_ns) for f in self.files]
        return ["imagefolder", str(self.path), files]

    def contents(self, downloads: Path) -> Contents:
        names = tuple(sorted({file.class_name for file in self.files}))
        labels = {name: label for label, name in enumerate(names)}
        counts: dict[Split, list[int]] = {}
        for file in self.files:
            counts.setdefault(file.split, [0] * len(names))[labels[file.class_name]] += 1
        check_classes(f"imagefolder:{self.path}", names, counts)

        def rows() -> Iterator[Row]:
            for file in self.files:
                yield Row(file.split, labels[file.class_name], self._name(file), file.path)

        return Contents(names, rows, len(self.files), sum(max(file.nbytes, 0) for file in self.files))
