"""In which storage a study is stored beside this machine, and what is there of it."""

from __future__ import annotations

from pathlib import Path

from search.journal.error_text import required
from search.journal.locks import lock
from search.journal.log import segments
from search.storage.remote import RemoteFolder, usable_storage
from trainables.config import ConfigError

__all__ = [
    "REMEMBERED", "fetch_study", "has_study", "is_prefix", "journal_contents", "journal_segments",
    "study_storage",
]  # fmt: skip

REMEMBERED = "storage"  # the file that tells a study's next session its storage


def study_storage(uri: str | None, folder: Path, smoke: bool, fresh: bool) -> RemoteFolder | None:
    """The storage of the study of `folder`; None if it is stored on this machine only.

    Args:
        uri: what the user named; None: as before.
        folder: the study's on this machine.
        smoke: whether it is a study's smoke run, which is stored apart from the whole study of the same name.
        fresh: whether a new study is started beside the one in `folder`.

    Raises:
        ConfigError: if it has been stored elsewhere, or the storage cannot be used.
    """
    before = folder / REMEMBERED
    known = before.read_text(encoding="utf-8").strip() if before.is_file() and not fresh else None
    if uri is None:
        return usable_storage(known) if known else None
    storage = usable_storage(uri)
    if smoke:
        storage = storage.child("smoke")
    if known and known != storage.uri:
        rule = f"must be {known}, where this study has been stored so far; --fresh starts another one"
        raise ConfigError.single("--storage", storage.uri, rule)
    local = storage.local()
    if local is not None and local.resolve() == folder.parent.resolve():
        raise ConfigError.single("--storage", uri, "must be another place than --out, of which it is the copy")
    return storage


def fetch_study(study: RemoteFolder, folder: Path) -> None:
    """Copy a study's YAML and journal here, if the storage has more of it than `folder`.

    Raises:
        ConfigError: if both have what the other lacks, a search holds the folder, or the storage cannot be read.
    """
    with required("--storage", study.location, "must hold a study that can be read"):
        names = journal_segments(study)
        if not names:
            return
        with lock(folder / "journal"):
            here = journal_contents(folder)
            there = {name: study.read(f"journal/{name}") or b"" for name in names}
            if not (folder / "study.yaml").exists() or not is_prefix(there, here):
                study.get("study.yaml", folder / "study.yaml")
            if is_prefix(there, here):
                return
            if not is_prefix(here, there):
                rule = (
                    f"holds results that {study.location} lacks, where the search continued without: choose another "
                    f"--out, into which it is fetched, or --fresh to start another search"
                )
                raise ConfigError.single("--out", str(folder), rule)
            for name in there:
                study.get(f"journal/{name}", folder / "journal" / name)


def has_study(study: RemoteFolder) -> bool:
    """Whether a study was started in this folder of a storage.

    Raises:
        ConfigError: if the storage cannot be read.
    """
    with required("--storage", study.location, "must be readable"):
        return bool(journal_segments(study))


def journal_segments(study: RemoteFolder) -> dict[str, int]:
    """The journal's files there, by name, and their bytes."""
    return {file.name: file.nbytes for file in study.list("journal") if file.name.endswith(".jsonl")}


def journal_contents(folder: Path) -> dict[str, bytes]:
    """The journal's segments in a study's folder of this machine, by name."""
    return {path.name: path.read_bytes() for path in segments(folder / "journal")}


def is_prefix(first: dict[str, bytes], second: dict[str, bytes]) -> bool:
    """Whether each of the first journal's segments is a prefix of the second's: then the second has all of it."""
    return all(name in second and second[name].startswith(content) for name, content in first.items())
