"""Prepared images in a storage: prepared where the search is started, fetched once by each node that trains on them.

`<storage>/prepared/<fingerprint>/` is a folder of `trainables.data.store` as it is; its record comes last, so that a
folder with a record is whole.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from search.journal.error_text import required
from search.storage.remote import RemoteFolder
from trainables.data.store import RECORD, PreparedData, Request, open_store

__all__ = ["fetch_prepared", "share_prepared"]

FOLDER = "prepared"


def share_prepared(storage: RemoteFolder, stores: Mapping[Request, PreparedData]) -> dict[Request, str]:
    """Copy prepared images there, unless they are there already; returns their fingerprints.

    Raises:
        ConfigError: if the storage cannot be written.
    """
    with required("--storage", storage.location, "must have room for the prepared images"):
        for store in stores.values():
            folder = storage.child(f"{FOLDER}/{store.fingerprint}")
            if not folder.exists(RECORD):
                for name in [*store.nbytes, RECORD]:
                    folder.put(store.directory / name, name)
    return {request: store.fingerprint for request, store in stores.items()}


def fetch_prepared(storage: RemoteFolder, fingerprint: str, cache: Path) -> PreparedData:
    """The images of this fingerprint in the folder `cache` of this node, copied from the storage the first time.

    Safe to call from many processes at once.

    Raises:
        OSError: if the storage cannot be read, or holds no such images.
    """
    if store := open_store(cache, fingerprint):
        return store
    folder = storage.child(f"{FOLDER}/{fingerprint}")
    with FileLock(cache / "locks" / f"{fingerprint}.lock"):
        if store := open_store(cache, fingerprint):
            return store
        for remains in cache.glob(f"tmp-{fingerprint}-*"):  # of a process that was killed here
            shutil.rmtree(remains)
        if not folder.exists(RECORD):
            raise FileNotFoundError(f"{folder.location} holds no prepared images")
        temporary = cache / f"tmp-{fingerprint}-{uuid.uuid4().hex}"
        try:
            for file in folder.list():
                folder.get(file.name, temporary / file.name)
            target = cache / fingerprint
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    store = open_store(cache, fingerprint)
    if store is None:
        raise FileNotFoundError(f"{folder.location} holds prepared images that are damaged: remove it")
    return store
