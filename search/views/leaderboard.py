"""The trials as a table, best first, each against the published recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from search.journal.records import TrialRecord, TrialStatus, ranked
from search.journal.reference import reference
from search.study.spec import StudySpec
from trainables.config import flatten

__all__ = ["STYLES", "print_leaderboard"]

STYLES = {
    TrialStatus.PENDING: "dim",
    TrialStatus.RUNNING: "cyan",
    TrialStatus.PAUSED: "blue",
    TrialStatus.COMPLETED: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.DIVERGED: "magenta",
    TrialStatus.FAILED: "red",
}
# What tells recipes apart at a glance, most telling first, and how a narrow terminal names it.
SHOWN = {
    "optimizer.kind": "", "optimizer.lr": "lr", "optimizer.weight_decay": "wd", "schedule.kind": "",
    "augment.strength": "aug", "augment.policy": "", "model.frozen_stages": "frozen", "batch_size": "batch",
}  # fmt: skip
NAMES = SHOWN | {"model.kind": "", "model.name": ""}  # other settings of the network have their key's last part


def print_leaderboard(spec: StudySpec, trials: Sequence[TrialRecord], console: Console, most: int = 10) -> None:
    """Completed trials by value, then the others by how many epochs they trained; the title counts the rest."""
    objective, baseline = spec.objective, reference(spec, trials)
    best = ranked(trials, objective.metric, objective.mode)[:most]
    heads = ["trial", "from", "epochs", "value"] + ([] if baseline is None else [f"vs {baseline[0]}"])
    lines = [list(_cells(record, objective.metric, baseline)) for record in best]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    # Rich would shrink any column; the numbers must stay readable, so the last column is cut here.
    room = max(console.width - sum(widths) - 2 * len(widths) - 2, 10)
    title = f"{spec.study}: the {len(best)} best of {len(trials)} trials by {objective.metric}"
    if best and best[-1].status is not TrialStatus.COMPLETED:
        title += ", incomplete ones last"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in [*heads, "config"]:
        table.add_column(head, no_wrap=True)
    shown = {key: NAMES.get(key, key.rpartition(".")[2]) for key in _differing_networks(trials)} | SHOWN
    for record, cells in zip(best, lines, strict=True):
        config = ", ".join(_words(record, shown))
        text = config if len(config) <= room else config[: room - 1] + "…"
        table.add_row(*cells, text, style=None if record.status is TrialStatus.COMPLETED else STYLES[record.status])
    console.print(table)


def _differing_networks(trials: Sequence[TrialRecord]) -> list[str]:
    """The settings of the network in which trials differ, which are shown first."""
    configs = [flatten(record.config) for record in trials]
    keys = dict.fromkeys(key for config in configs for key in config if key.startswith("model."))
    return [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]


def _cells(record: TrialRecord, metric: str, baseline: tuple[str, float] | None) -> Iterator[str]:
    value = record.value(metric)
    yield str(record.number)
    yield record.recipe or record.origin
    yield str(record.last_epoch) + ("" if record.status is TrialStatus.COMPLETED else f" {record.status.value.lower()}")
    yield f"{value:.4f}" if math.isfinite(value) else "-"
    if baseline is not None:
        yield f"{value - baseline[1]:+z.4f}" if math.isfinite(value) else "-"


def _words(record: TrialRecord, shown: Mapping[str, str]) -> Iterator[str]:
    flat = flatten(record.config)
    for key, name in shown.items():
        value = flat.get(key)
        if value not in (None, "none", 0):
            text = f"{value:.2g}" if isinstance(value, float) else str(value)
            yield f"{name} {text}".strip()
