"""The store: a source prepared once, in `<cache>/<fingerprint>/`, and mapped by every trial of a machine.

A store is built in a temporary folder beside it and renamed when it is complete; a lock per request keeps processes
that ask for the same data from building it twice. A process that dies half-way leaves a temporary folder, which the
next preparation removes. `<cache>/keys/` remembers which request (paths, sizes and times of files, split settings) gave
which fingerprint, so that the images are read once only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from trainables.check import Check, alarms
from trainables.config import ConfigError, Data
from trainables.config.images import canonical_source
from trainables.config.part import Count, Part, Positive
from trainables.config.paths import absolute_path
from trainables.data.prepare import FORMAT, build
from trainables.data.selection import excluded_names
from trainables.data.source import SPLITS, Source
from trainables.data.sources import open_source
from trainables.files import replacing

__all__ = ["RECORD", "Request", "PreparedData", "default_cache", "described", "open_store", "prepare", "request"]

log = logging.getLogger(__name__)

Request = tuple[str | float | None, ...]

RECORD = "meta.json"
_KEYS = 3  # raise it when sources must be read anew, because some are understood or converted in another way
_FINGERPRINT = "[0-9a-f]{32}"


class PreparedData(Part):
    """A prepared source. Statistics are of the training split's pixels scaled to 0..1, per channel R, G, B.

    `fingerprint` (32 hex digits) names the content: images, labels, class names and which image is in which split.
    `encoded` tells whether images are stored as files or as pixels. `image_size` is (height, width) when all images are
    alike (and at most 224 pixels a side), else None. `counts` has the rows of `train`, `val` and `test`; `skipped`
    names the unreadable images left out; `nbytes` has the size of each file of the store. `description` says in three
    lines what the data are, the source's name aside, and `checks` what may be wrong with them; both are () where an
    older version prepared them.
    """

    fingerprint: Annotated[str, Field(pattern=f"^{_FINGERPRINT}$")]
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    encoded: bool
    image_size: tuple[Count, Count] | None
    counts: dict[str, Count]
    skipped: tuple[str, ...]
    nbytes: dict[str, Count]
    description: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    directory: Annotated[Path, Field(exclude=True, validate_default=False)] = Path()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


class _Prepared(Part):
    """What an earlier request gave. Description and checks are the request's: another folder may hold the same."""

    fingerprint: Annotated[str, Field(pattern=f"^{_FINGERPRINT}$")]
    description: tuple[str, ...]
    checks: tuple[Check, ...]


def default_cache() -> Path:
    """Where stores and downloads go: $RESNET_SEARCH_CACHE, else ~/.cache/resnet-search."""
    return Path(os.environ.get("RESNET_SEARCH_CACHE") or "~/.cache/resnet-search").expanduser().absolute()


def prepare(data: Data, cache: Path, source: Source | None = None) -> PreparedData:
    """Make sure that the store of `data` exists in the folder `cache`, and describe it.

    The first call reads every image; later ones, in any process, compare sizes and times of files only. Safe to call
    from many processes at once. `data.resolution` and the sample caps don't matter here: they are applied on loading.
    `source` is read in place of the one that `data` names.

    Raises:
        ConfigError: if the source can't be used or the cache not be written.
    """
    cache = cache.expanduser().absolute()
    source = source or open_source(data.source, data.columns, data.group_by)
    key = _key(source, data)
    if store := _recorded(cache, key):
        return store
    try:
        with FileLock(_lock_path(cache, key)):
            if store := _recorded(cache, key):  # another process has built it meanwhile
                return store
            _remove_remains(cache, key)
            store = _build(source, data, cache, key)
            record = _Prepared(fingerprint=store.fingerprint, description=store.description, checks=store.checks)
            with replacing(cache / "keys" / f"{key}.json") as partial:
                partial.write_text(record.model_dump_json())
            return store
    except OSError as error:
        rule = f"must be a writable folder ({error.strerror or error}): set RESNET_SEARCH_CACHE to another one"
        raise ConfigError.single("cache", str(cache), rule) from error


def open_store(cache: Path, fingerprint: str) -> PreparedData | None:
    """The store of this fingerprint in the folder `cache`; None if it is missing or damaged."""
    return _read(cache / fingerprint) if re.fullmatch(_FINGERPRINT, fingerprint) else None


def request(data: Data) -> Request:
    """The part of `data` that decides what its store holds: equal ones of a search have the same store."""
    folds = () if data.folds is None else (data.folds, data.fold, data.repeat)
    groups = () if data.group_by is None else ("group_by", data.group_by)
    excluded = () if data.exclude is None else ("exclude", absolute_path(data.exclude))
    return (
        canonical_source(data.source), data.val_fraction, data.test_fraction, data.split_seed, data.on_corrupt,
        data.columns.image, data.columns.label, *folds, *groups, *excluded,
    )  # fmt: skip


def described(stores: Mapping[Request, PreparedData]) -> tuple[str, ...]:
    """What the data of a search are: three lines for each source, and one for each thing that may be wrong with it."""
    lines = []
    for (source, *_), store in stores.items():
        classes, *more = store.description or (f"{store.num_classes} classes, prepared by an older version",)
        found = [f"{check.status}: {check.evidence}; {check.next_step}" for check in alarms(store.checks)]
        lines += [f"{source}: {classes}", *more, *found]
    return tuple(lines)


def _key(source: Source, data: Data) -> str:
    asked = request(data.model_copy(update={"exclude": None}))[1:]  # of a list of images its content counts
    excluded = () if data.exclude is None else ("exclude", *excluded_names(data.exclude))
    named = [FORMAT, _KEYS, source.signature(), *asked, *excluded]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]


def _lock_path(cache: Path, name: str) -> Path:
    return cache / "locks" / f"{name}.lock"


def _recorded(cache: Path, key: str) -> PreparedData | None:
    """The store that an earlier call made for the same request."""
    try:
        found = _Prepared.model_validate_json((cache / "keys" / f"{key}.json").read_bytes())
    except (OSError, ValidationError):  # nothing there, or nothing sound: the store is built again
        return None
    store = open_store(cache, found.fingerprint)
    return store and store.model_copy(update={"description": found.description, "checks": found.checks})


def _read(directory: Path) -> PreparedData | None:
    """The store in `directory`, or None if it is missing or damaged."""
    try:
        store = PreparedData.model_validate_json((directory / RECORD).read_bytes())
        sizes = {f"{split}.arrow": (directory / f"{split}.arrow").stat().st_size for split in SPLITS}
    except OSError:
        return None
    except ValidationError as invalid:
        log.warning("%s is damaged: %s", directory / RECORD, invalid.errors()[0]["msg"])
        return None
    if store.fingerprint != directory.name or store.nbytes != sizes or set(store.counts) != set(SPLITS):
        log.warning("%s is damaged: its files are not those of its record", directory)
        return None
    return store.model_copy(update={"directory": directory})


def _remove_remains(cache: Path, key: str) -> None:
    """Remove what dead processes left; a folder whose request is locked belongs to a living one."""
    for remains in cache.glob("tmp-*"):
        owner = remains.name.split("-")[1]
        if owner == key:  # ours is locked by this process
            shutil.rmtree(remains)
            continue
        with contextlib.suppress(Timeout), FileLock(_lock_path(cache, owner), timeout=0):
            shutil.rmtree(remains, ignore_errors=True)


def _build(source: Source, data: Data, cache: Path, key: str) -> PreparedData:
    log.info("preparing %s (once) in %s", data.source, cache)
    temporary = cache / f"tmp-{key}-{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        shown = data.model_copy(update={"source": canonical_source(data.source)})
        contents = source.contents(cache / "downloads")
        built = build(contents, shown, temporary)
        store = PreparedData(
            class_names=contents.class_names,
            nbytes={path.name: path.stat().st_size for path in sorted(temporary.iterdir())},
            **{**asdict(built), "checks": built.checks},
        )
        (temporary / RECORD).write_text(store.model_dump_json(indent=1))
        for path in (temporary / RECORD, temporary):  # the record is on disk before the rename can be
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        directory = cache / store.fingerprint
        with FileLock(_lock_path(cache, store.fingerprint)):
            # The same images may have come by another way: a complete store stays, a damaged one is replaced.
            if (there := _read(directory)) is None:
                shutil.rmtree(directory, ignore_errors=True)
                temporary.rename(directory)
            elif not (there.description and there.checks):
                (temporary / RECORD).replace(directory / RECORD)
        log.info("prepared %s as %s", data.source, store.fingerprint)
        return store.model_copy(update={"directory": directory})
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
