"""The folder of the study that is about to be searched: a new one, or one that is continued."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from search.journal.error_text import required
from search.journal.log import read
from search.storage.location import fetch_study, has_study
from search.storage.remote import RemoteFolder
from search.study.parse import load_study
from search.study.spec import StudySpec
from search.study.transfer import as_begun
from trainables.config import ConfigError, load_yaml

__all__ = ["check_moved", "continued", "study_folder"]


def study_folder(
    spec: StudySpec, out: Path, fresh: bool, storage: RemoteFolder | None = None
) -> tuple[StudySpec, bool]:
    """The study as it will be searched, under the name whose folder below `out` it uses, and whether it is continued.

    The folder is made. With `fresh` it is the first free one of `<study>`, `<study>-2`, ... What the storage has more
    of is fetched first.

    Raises:
        ConfigError: if `out` cannot be written, or what it holds under this name is another study.
    """
    with required("--out", out, "must be a folder that can be written"):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    name, number = spec.study, 1
    if storage is not None and not fresh:
        fetch_study(storage.child(name), out / name)
    if not fresh and any(read(out / name / "journal")):
        return continued(spec, out / name), True
    while fresh and not _is_new(out / name, storage):
        number += 1
        name = f"{spec.study}-{number}"
    (out / name).mkdir(exist_ok=True)
    return spec.model_copy(update={"study": name}), False


def _is_new(folder: Path, storage: RemoteFolder | None) -> bool:
    """Whether the folder was made by this call, so that two searches that start at once each get their own."""
    if storage is not None and has_study(storage.child(folder.name)):
        return False
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def continued(spec: StudySpec, folder: Path) -> StudySpec:
    """`spec`, to continue in a folder that holds the study already, with what was decided then about the machine.

    Raises:
        ConfigError: if the folder holds a study that differs in more than how it is run, or had a larger budget.
    """
    stored = load_study(str(folder / "study.yaml"))
    if "rung_weights" not in load_yaml(folder / "study.yaml")["objective"]:  # of a version that knew no other
        objective = stored.objective.model_copy(update={"rung_weights": "current"})
        stored = stored.model_copy(update={"objective": objective})
    spec = as_begun(spec, stored)
    changed = stored.difference(spec)
    way_out = f"give {folder / 'study.yaml'} as STUDY to continue it, --fresh to start another beside it"
    if changed:
        rule = f"was begun with other options: {'; '.join(changed)}. A study keeps what it is; {way_out}"
        raise ConfigError.single("STUDY", stored.study, rule)
    old, new = stored.budget, spec.budget
    grown = (
        ("--trials", old.trials, new.trials), ("--hours", old.hours, new.hours),
        ("--max-cost", old.max_cost, new.max_cost),
    )  # fmt: skip
    for option, before, now in grown:
        if now is not None and now < (math.inf if before is None else before):
            limit = "no limit" if before is None else f"{before:g}"
            rule = f"may grow but not shrink, and {folder} was begun with {limit}; {way_out}"
            raise ConfigError.single(option, now, rule)
    # Without prices what the study has cost would stand still from now on.
    decided = {"gpus_per_trial": stored.resources.gpus_per_trial, "prices": stored.resources.prices}
    missing = {key: value for key, value in decided.items() if getattr(spec.resources, key) is None}
    return spec.with_execution(**stored.trial["execution"]).with_resources(**missing)


def check_moved(spec: StudySpec, folder: Path, before: str | None, fingerprint: str | None) -> None:
    """Refuse images under another path that are not those which the study in `folder` has been searched with.

    Args:
        spec: the study, with the path of today.
        folder: the study's.
        before, fingerprint: of the images then and now.

    Raises:
        ConfigError: if both path and fingerprint have changed.
    """
    was, now = (study.trial["data"]["source"] for study in (load_study(str(folder / "study.yaml")), spec))
    if was != now and before != fingerprint:
        rule = f"must hold the images of {was}, with which this study has been searched: give those, or --fresh"
        raise ConfigError.single("data.source", now, rule)
