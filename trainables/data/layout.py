"""Where the classes and splits of a folder are: every layout that is understood, and a refusal by name of the rest.

PATH/CLASS/...           no splits; images may lie in folders below their class
PATH/SPLIT/CLASS/...     `trainables.data.names` knows the words for splits
PATH/CLASS/SPLIT/...     splits inside each class
PATH/FOLDER/...          one of these inside folders that hold nothing else
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from trainables.config import ConfigError
from trainables.data.names import (
    ARCHIVES,
    CONVERT,
    EXTENSIONS,
    NOT_IMAGES,
    OTHER_IMAGES,
    format_of,
    is_junk,
    is_wrapper,
    split_of_folder,
    splits_of_folders,
    suffix,
)
from trainables.data.source import Split, listed

__all__ = ["ClassFolder", "Layout", "Tree", "find_layout"]

MOST_SPLITS = 3
_DEEPEST = 8  # wrapping folders; a circle of links has no end
_IMAGES = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", *CONVERT)


@dataclass
class _Listing:
    folders: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)


class Tree:
    """A folder tree without its junk. Each folder is listed once, and what is no image is counted then.

    Attributes:
        junk: how often each name of junk was met.
        other: how many other files were left out, by extension.
        unnamed: images whose names don't say that they are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.junk: Counter[str] = Counter()
        self.other: Counter[str] = Counter()
        self.unnamed: list[str] = []
        self._listings: dict[Path, _Listing] = {}

    def look(self, folder: Path) -> _Listing:
        """The folders and images directly in `folder`.

        Raises:
            OSError: if it can't be read.
        """
        if folder in self._listings:
            return self._listings[folder]
        found = self._listings[folder] = _Listing()
        for item in sorted(os.scandir(folder), key=lambda item: item.name):
            name, entry, kind = item.name, folder / item.name, suffix(item.name)
            if is_junk(name):
                self.junk["._*" if name.startswith("._") else name] += 1
            elif item.is_dir(follow_symlinks=False) or (item.is_symlink() and entry.is_dir()):
                found.folders.append(entry)
            elif kind in EXTENSIONS or kind in OTHER_IMAGES:
                found.images.append(entry)
            elif kind not in NOT_IMAGES and (hidden := _format_of(entry)) in _IMAGES:
                self.unnamed.append(f"{self.name(entry)} ({hidden})")
            else:
                self.other[kind or "without extension"] += 1
        return found

    def below(self, folder: Path) -> list[Path]:
        """Every image below `folder`, links followed and their circles ended."""
        found: list[Path] = []
        waiting, entered = [folder], set()
        while waiting:
            here = waiting.pop()
            place = here.stat()
            if (place.st_dev, place.st_ino) in entered:  # a link back to a parent
                continue
            entered.add((place.st_dev, place.st_ino))
            listing = self.look(here)
            found += listing.images
            waiting += reversed(listing.folders)
        return found

    def other_files(self) -> str:
        """What was left out, in brackets, and what to do with it; "" if nothing was."""
        if not self.other:
            return ""
        packed = any(kind in ARCHIVES for kind in self.other)
        tables = any(kind in (".parquet", ".arrow") for kind in self.other)
        way = ": unpack them first" if packed else f": parquet:{self.root} reads tables" if tables else ""
        return f" (it holds {listed([f'{count} {kind}' for kind, count in self.other.most_common()])}{way})"

    def name(self, path: Path) -> str:
        """A path as messages show it: below the root, and in UTF-8 whatever the file system holds."""
        return os.fsencode(path.relative_to(self.root)).decode("utf-8", "replace")


def _format_of(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
            return None
        with path.open("rb") as file:
            return format_of(file.read(256))
    except OSError:  # no image that could be lost: whoever wants the file sees the same
        return None


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose images, at any depth, are of one class and split."""

    split: Split
    class_name: str
    path: Path


@dataclass
class Layout:
    """Where the classes are; `origins` says where each split is, `notes` what a reader should know of it."""

    classes: list[ClassFolder]
    origins: dict[Split, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_layout(tree: Tree) -> Layout:
    """Find the class folders of a tree.

    Raises:
        ConfigError: naming what is not understood.
        OSError: if a folder can't be read.
    """
    root = tree.root
    for _ in range(_DEEPEST):
        here = tree.look(root)
        (inner, *more) = here.folders or [root]
        if here.images or more or split_of_folder(inner.name) or not _holds_folders_only(tree, inner):
            break
        root = inner
    here = tree.look(root)
    if here.images:
        _refuse_loose(tree, root)
    splits = splits_of_folders(folder.name for folder in here.folders)
    if splits:
        layout = _split_first(tree, here.folders, splits)
    elif any(splits_of_folders(f.name for f in tree.look(folder).folders) for folder in here.folders):
        layout = _class_first(tree, here.folders)
    else:
        _check_no_parts(tree, here.folders)
        layout = Layout([ClassFolder("train", folder.name, folder) for folder in here.folders])
    if not layout.classes:
        _refuse(tree, f"must hold one folder of images per class in {root}, and has none{tree.other_files()}")
    if root != tree.root:
        layout.notes.append(f"found in {tree.name(root)}/")
    layout.notes += _unused_siblings(root)
    return layout


def _holds_folders_only(tree: Tree, folder: Path) -> bool:
    listing = tree.look(folder)
    return bool(listing.folders) and not listing.images


def _split_first(tree: Tree, folders: Sequence[Path], splits: dict[str, Split]) -> Layout:
    own = [folder for folder in folders if folder.name in splits]
    others = {folder: len(tree.below(folder)) for folder in folders if folder.name not in splits}
    strangers = [f"{tree.name(folder)}/ ({count} images)" for folder, count in others.items() if count]
    named = listed([f"{tree.name(folder)}/" for folder in own])
    if "train" not in splits.values():
        rule = f"must have a folder `train` beside its other splits ({named})"
        beside = (
            f", and has {listed(strangers)}; if all are classes, put them into a folder train/" if strangers else ""
        )
        _refuse(tree, rule + beside)
    if strangers:
        rule = (
            f"has {listed(strangers)} beside its splits {named}: name each split train, val or test; move the rest away"
        )
        _refuse(tree, rule)
    layout = Layout([], notes=[f"{tree.name(folder)}/ holds no images" for folder in others])
    for folder in own:
        split = splits[folder.name]
        if split in layout.origins:
            both = f"{layout.origins[split]} and {tree.name(folder)}/"
            rule = f"must have one {split} split, and has {both}: merge them, or remove one"
            _refuse(tree, rule)
        layout.origins[split] = f"{tree.name(folder)}/"
        inner = tree.look(folder)
        if not inner.images and len(inner.folders) == 1 and _wraps(inner.folders[0], folder):
            folder = inner.folders[0]
        if tree.look(folder).images:
            _refuse_loose(tree, folder)
        classes = tree.look(folder).folders
        if split == "train" and not classes:
            _refuse(tree, f"must hold one folder of images per class in {folder}, and has none{tree.other_files()}")
        layout.classes += [ClassFolder(split, found.name, found) for found in classes]
    return layout


def _wraps(inner: Path, folder: Path) -> bool:
    return inner.name.lower() == folder.name.lower() or is_wrapper(inner.name)


def _class_first(tree: Tree, folders: Sequence[Path]) -> Layout:
    layout = Layout([])
    for folder in folders:
        here = tree.look(folder)
        splits = splits_of_folders(inner.name for inner in here.folders)
        strangers = [tree.name(f) for f in (*here.folders, *here.images) if f.name not in splits]
        if strangers and splits:
            beside = listed([f"{name}/" for name in splits])
            rule = f"must have only splits in {tree.name(folder)}/ beside {beside}, unlike {listed(strangers)}"
            _refuse(tree, rule)
        if strangers:
            split_first = next(f for f in folders if splits_of_folders(i.name for i in tree.look(f).folders))
            rule = f"must have the same split folders in each class folder, unlike {tree.name(folder)}/"
            _refuse(tree, f"{rule}; or did you mean imagefolder:{split_first}?")
        for inner in here.folders:
            if _holds_folders_only(tree, inner):
                rule = f"must be one data set, and {tree.name(folder)}/ has splits and classes of its own"
                _refuse(tree, f"{rule}: did you mean imagefolder:{folder}?")
            split = splits[inner.name]
            layout.origins.setdefault(split, f"*/{inner.name}/")
            layout.classes.append(ClassFolder(split, folder.name, inner))
        if not here.folders:  # an empty class: whoever reads the layout refuses it with the others
            layout.classes.append(ClassFolder("train", folder.name, folder))
    return layout


def _check_no_parts(tree: Tree, folders: Sequence[Path]) -> None:
    """Refuse parts of one data set, which would become its classes.

    `fold1/cat`, `fold2/cat`, ... differ in their numbers only; `query/cat`, `gallery/cat` are two or three with just
    the same folders. Numbers, such as years, may stand below any class.
    """
    if len(folders) < 2 or not all(_holds_folders_only(tree, folder) for folder in folders):
        return
    inner = [{f.name for f in tree.look(folder).folders} for folder in folders]
    shared = sorted(set.intersection(*inner))
    are_numbered = len({re.sub(r"\d+", "#", folder.name.lower()) for folder in folders}) == 1
    named = [name for name in shared if not name.isdecimal() and not is_wrapper(name)]
    are_alike = len(folders) <= MOST_SPLITS and all(names == inner[0] for names in inner) and len(named) > 1
    if len(shared) > 1 and (are_numbered or are_alike):
        parts = listed([f"{tree.name(folder)}/" for folder in folders], 3)
        rule = f"has {listed(shared, 3)} in each of {parts}: if these are splits, name them train, val and test"
        _refuse(tree, f"{rule}; if they are classes, put them into a folder train/; or name the one that is meant")


def _unused_siblings(root: Path) -> list[str]:
    """Other splits beside a folder that is itself named like one: it was meant alone, and they are not read."""
    if not split_of_folder(root.name):
        return []
    try:
        names = splits_of_folders(entry.name for entry in os.scandir(root.parent) if entry.is_dir())
    except OSError:  # a parent that nobody may list
        return []
    others = sorted(f"{name}/" for name in names if name != root.name)
    return [f"beside it and not read: {listed(others)} (the folder above reads them)"] if others else []


def _refuse_loose(tree: Tree, folder: Path) -> NoReturn:
    """Refuse images that lie where class folders should."""
    here = tree.look(folder)
    names = listed([tree.name(image) for image in here.images], 3)
    if here.folders:
        beside = listed([f"{tree.name(inner)}/" for inner in here.folders], 3)
        _refuse(tree, f"must have every image in a class folder, unlike {names} beside {beside}: move or remove them")
    above = folder.parent
    hint = ""
    if folder == tree.root:
        above = above.parent if split_of_folder(above.name) else above
        hint = f"; if this is a class, imagefolder:{above} is the data"
    rule = f"must hold one folder of images per class in {folder}, and has none (images lie directly in it: {names})"
    _refuse(tree, rule + hint)


def _refuse(tree: Tree, rule: str) -> NoReturn:
    raise ConfigError.single("data.source", f"imagefolder:{tree.root}", rule)
