"""Studies at a glance: a line for each, or plain data for scripts, from what `search.status` looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.analysis.finalists import refit_outcome
from search.journal.records import TrialStatus
from search.journal.reference import reference
from search.journal.result import StudyResult
from search.views.progress import duration
from search.views.refit import refit_provenance
from search.views.summary import Overview, look
from trainables.config import ConfigError

__all__ = ["ago", "data", "data_below", "print_studies"]


def ago(seconds: float) -> str:
    """How long ago something was, in words; the clock of another machine may be ahead."""
    return f"{seconds / 86400:.0f} days" if seconds > 2 * 86400 else duration(max(seconds, 0.0))


def data(overview: Overview) -> dict[str, Any]:
    """A study's status as plain data; docs/results.md describes the keys."""
    spec, trials, best, sessions = overview.spec, overview.trials, overview.best, overview.state.sessions
    metric, first = spec.objective.metric, reference(spec, trials)
    counts = {status.value.lower(): len(overview.of(status)) for status in TrialStatus}
    found = None if best is None else {
        "trial": best.number, "origin": best.origin, "value": best.value(metric), "epoch": best.final_epoch,
    }  # fmt: skip
    files, size = overview.checkpoints
    result = StudyResult.of(spec, overview.state, overview.folder)
    refit = result.latest("refit")
    return {
        "study": spec.study,
        "folder": str(overview.folder.absolute()),
        "state": overview.word,
        "reason": sessions[-1].reason if sessions and overview.holder is None else None,
        "holder": overview.holder,
        "sessions": len(sessions),
        "latest": sessions[-1].latest if sessions else None,
        "age_seconds": overview.age,
        "seconds": overview.seconds,
        "cost": overview.cost,
        "budget": spec.budget.model_dump(),
        "trials": {"ended": sum(record.status.ended for record in trials), "of": spec.budget.trials, **counts},
        "epochs": sum(len(record.history) for record in trials),
        "metric": metric,
        "mode": spec.objective.mode,
        "best": found,
        "recipe": None if first is None else {"name": first[0], "value": first[1]},
        "gain": None if best is None or first is None else best.value(metric) - first[1],
        "refit": None if refit is None else refit_provenance(refit_outcome(result, refit)),
        "checkpoints": {"files": files, "bytes": size},
    }


def data_below(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The status of each study, the last active first; of one that cannot be read `study`, `folder` and `error`."""
    found = []
    for folder in folders:
        try:
            found.append(data(look(folder)))
        except ConfigError as error:
            found.append({"study": folder.name, "folder": str(folder.absolute()), "error": str(error)})
    return sorted(found, key=lambda study: (study.get("age_seconds", math.inf) or 0.0, study["folder"]))


def print_studies(studies: Sequence[dict[str, Any]], out: Path, console: Console) -> None:
    """A line for each study of `data_below`."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("study", "state", "trials", "best", "against", "age"):
        table.add_column(head, no_wrap=head != "study", overflow="fold")
    broken = []
    for study in studies:
        folder = Path(study["folder"])
        name = str(folder.relative_to(out.absolute())) if folder.is_relative_to(out.absolute()) else str(folder)
        if "error" in study:
            broken.append(study["error"])
            table.add_row(Text(name), "unreadable", "", "", "", "", style="red")
            continue
        trials, best, gain, age = study["trials"], study["best"], study["gain"], study["age_seconds"]
        table.add_row(
            Text(name), study["state"], f"{trials['ended']}/{trials['of']}",
            "-" if best is None else f"{best['value']:.4f}",
            "-" if gain is None else f"{gain:+z.4f} {study['recipe']['name']}", "-" if age is None else ago(age),
        )  # fmt: skip
    console.print(table)
    for error in broken:
        console.print(Text(f"error: {error}"), soft_wrap=True)
