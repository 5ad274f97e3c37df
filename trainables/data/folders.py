"""Images in folders, a folder a class; `trainables.data.layout` says where classes and splits are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.config import ConfigError
from trainables.data.layout import ClassFolder, Tree, find_layout
from trainables.data.names import EXTENSIONS, refusal_of_file
from trainables.data.source import Contents, Row, Split, check_classes, listed

__all__ = ["ImageFile", "ImageFolder"]


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
        except OSError:  # a broken link: reading it fails as well, and is reported with the other unreadable images
            return cls(split, class_name, path, -1, -1)
        return cls(split, class_name, path, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class ImageFolder:
    """A folder tree of images, in a fixed order.

    Attributes:
        origins: where each split is.
        notes: what a reader should know of the layout.
        left_out: what lies about and is no image.
    """

    path: Path
    files: tuple[ImageFile, ...]
    origins: dict[Split, str]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def scan(cls, path: Path) -> ImageFolder:
        """List the images of `path`.

        Raises:
            ConfigError: if there is no such folder, its layout is not understood, or a class folder has no images.
        """
        source = f"imagefolder:{path}"
        if not path.is_dir():
            rule = refusal_of_file(str(path)) if path.exists() else "must name an existing folder"
            raise ConfigError.single("data.source", source, rule)
        try:
            tree = Tree(path)
            layout = find_layout(tree)
            images = {folder: tree.below(folder.path) for folder in layout.classes}
        except OSError as error:
            rule = f"must be readable: {error.strerror} ({error.filename})"
            raise ConfigError.single("data.source", source, rule) from error
        if tree.unnamed:
            rule = (
                f"has images whose names do not say so: {listed(tree.unnamed)}; give them an extension, or remove them"
            )
            raise ConfigError.single("data.source", source, rule)
        _check_filled(tree, images)
        files = [ImageFile.at(f.split, _readable(f.class_name), path) for f, found in images.items() for path in found]
        notes = (*layout.notes, *_nested(tree, images))
        return cls(path, tuple(sorted(files)), layout.origins, notes, _left_out(tree))

    def _name(self, file: ImageFile) -> str:
        return _readable(str(file.path.relative_to(self.path)))

    def signature(self) -> Any:
        files = [(f.split, f.class_name, self._name(f), f.nbytes, f.modified_ns) for f in self.files]
        return ["imagefolder", str(self.path), files]

    def contents(self, downloads: Path) -> Contents:
        found = self.unchecked()
        counts: dict[Split, list[int]] = {}
        for row in found.rows():
            counts.setdefault(row.split, [0] * len(found.class_names))[row.label] += 1
        check_classes(f"imagefolder:{self.path}", found.class_names, counts)
        return found

    def unchecked(self) -> Contents:
        """`contents`, but of any classes: images that are only scored may be of one class, or of no training split."""
        names = tuple(sorted({file.class_name for file in self.files}))
        labels = {name: label for label, name in enumerate(names)}

        def rows() -> Iterator[Row]:
            for file in self.files:
                yield Row(file.split, labels[file.class_name], self._name(file), file.path)

        nbytes = sum(max(file.nbytes, 0) for file in self.files)
        return Contents(names, rows, len(self.files), nbytes, self.origins, self.notes, self.left_out)


def _check_filled(tree: Tree, images: dict[ClassFolder, list[Path]]) -> None:
    source = f"imagefolder:{tree.root}"
    beside = tree.other_files()
    if not any(images.values()):
        classes = listed([tree.name(folder.path) for folder in images])
        rule = f"must hold images ({', '.join(EXTENSIONS)}), and has none in its class folders {classes}{beside}"
        raise ConfigError.single("data.source", source, rule)
    empty = [tree.name(folder.path) for folder, found in images.items() if folder.split == "train" and not found]
    if empty:
        filled = [folder for folder, found in images.items() if found]
        meant = filled if len(filled) == 1 and not tree.look(filled[0].path).images else []
        hint = f"; or did you mean imagefolder:{meant[0].path}?" if meant else ""
        rule = f"has class folders without images: {listed(empty)}{beside}; fill or remove them{hint}"
        raise ConfigError.single("data.source", source, rule)


def _nested(tree: Tree, images: dict[ClassFolder, list[Path]]) -> list[str]:
    """A word on folders inside class folders, which are no classes, and on empty ones."""
    inner = [tree.name(f) for folder in images for f in tree.look(folder.path).folders]
    empty = [tree.name(folder.path) for folder, found in images.items() if folder.split != "train" and not found]
    notes = [f"folders inside a class count to it ({listed(inner, 3)})"] if inner else []
    return notes + ([f"empty: {listed(empty)}"] if empty else [])


def _left_out(tree: Tree) -> tuple[str, ...]:
    found = [f"{count} {kind}" for kind, count in tree.other.most_common()]
    junk = [f"{count} {name}" for name, count in tree.junk.most_common()]
    return (*found, *junk)
