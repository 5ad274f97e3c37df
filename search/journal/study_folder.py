"""Studies on disk: found by name or path, and read back."""

from __future__ import annotations

import os
from pathlib import Path

from search.journal.events import Event
from search.journal.log import read, segments
from search.study.parse import load_study
from search.study.spec import StudySpec
from trainables.config import ConfigError
from trainables.config.plugins import as_recorded

__all__ = ["find_study", "read_study", "studies_below", "studies_in"]


def find_study(study: str, out: Path) -> Path:
    """The folder of a study that was started: `out/<study>`, or a path if `study` has a slash or is `.` or `..`.

    Raises:
        ConfigError: naming the studies that exist, if this is none.
    """
    folder = Path(study).expanduser().absolute() if "/" in study or study in (".", "..") else out / study
    folder = Path(os.path.normpath(folder))  # `.` and `..` have no name to look beside
    if study and segments(folder / "journal"):
        return folder
    parent = folder.parent if study else out
    known = studies_in(parent)
    there = f"there are {', '.join(known)}" if known else "there is none; --out names the folder of another search"
    raise ConfigError.single("STUDY", study, f"must be a study in {parent}: {there}")


def studies_in(folder: Path) -> list[str]:
    """The names of the studies in a results folder, in alphabetical order; of those that were started."""
    return sorted({path.parent.parent.name for path in folder.glob("*/journal/*.jsonl")})


def studies_below(out: Path) -> list[Path]:
    """The folder of every study in a results folder, or in a folder of it, as smoke runs are.

    Raises:
        ConfigError: if there is none.
    """
    found = {path.parent.parent for depth in ("*", "*/*") for path in out.glob(f"{depth}/journal/*.jsonl")}
    if not found:
        raise ConfigError.single("--out", str(out), "must be a results folder: there is no study in it")
    return sorted(found)


@as_recorded()
def read_study(folder: Path) -> tuple[StudySpec, list[Event]]:
    """The study in a folder, and its events. Takes no lock and writes nothing: a driver may be at work.

    Plug-ins that it names are not loaded, and need not be there.

    Raises:
        ConfigError: naming the file, and the line of a journal, that cannot be read.
    """
    return load_study(str(folder / "study.yaml")), list(read(folder / "journal"))
