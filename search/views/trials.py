"""All trials of a study, each with why it ended: what fits on a terminal, and everything in a file."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from search.journal.error_text import error_summary
from search.journal.records import COLLAPSED, TrialRecord, TrialStatus, ranked
from search.journal.result import StudyResult
from search.journal.table import column
from search.study.settings import Objective
from search.views.leaderboard import STYLES
from spaces import path_of
from trainables.config import ConfigError, flatten
from trainables.files import replaced, write_text
from trainables.result import DIRECTIONS

__all__ = ["collapsed", "print_trials", "sorted_trials", "why_ended", "write_table"]

BEST, TRIAL, EPOCHS = "best", "trial", "epochs"  # what trials may be sorted by, beside metrics and settings
MOST_HEAD = 9  # characters
# What tells trials apart at a glance comes first, under a name that leaves room.
NAMES = {
    "model.kind": "net", "model.name": "name", "optimizer.kind": "opt", "optimizer.lr": "lr",
    "optimizer.weight_decay": "wd", "schedule.kind": "sched", "augment.strength": "aug", "batch_size": "batch",
    "model.frozen_stages": "frozen",
}  # fmt: skip


def sorted_trials(result: StudyResult, by: str = BEST) -> list[TrialRecord]:
    """The study's trials in the order that is asked for; those without a value come last.

    Args:
        result: the study.
        by: `best`: completed trials by the objective, then the others by how many epochs they trained; `trial`: by
            number; `epochs`; a metric of the last epoch, the better first; or a searched setting, by its dotted path or
            its last part where no other ends so.

    Raises:
        ConfigError: if there is no such order.
    """
    settings = _settings(result)
    if by == BEST:
        return ranked(result.trials, result.spec.objective.metric, result.spec.objective.mode)
    if by == TRIAL:
        return list(result.trials)
    if by == EPOCHS:
        return sorted(result.trials, key=lambda record: (-record.last_epoch, record.number))
    if by in DIRECTIONS:
        sign = -1.0 if DIRECTIONS[by] == "max" else 1.0
        finite = [record for record in result.trials if math.isfinite(record.value(by))]
        rest = [record for record in result.trials if not math.isfinite(record.value(by))]
        return [*sorted(finite, key=lambda record: (sign * record.value(by), record.number)), *rest]
    meant = [path for path in settings if path == by] or [path for path in settings if path.endswith(f".{by}")]
    if len(meant) != 1:
        known = ", ".join([BEST, TRIAL, EPOCHS, *DIRECTIONS, *settings])
        raise ConfigError.single("--sort", by, f"must be one of {known}")

    def place(record: TrialRecord) -> tuple[bool, float, str, int]:
        value = flatten(record.config).get(meant[0])
        number = float(value) if isinstance(value, int | float) else math.inf
        return value is None, number, str(value), record.number

    return sorted(result.trials, key=place)


def collapsed(record: TrialRecord) -> str:
    """That the trial's network is of no use as it stands, in words; empty if it is not so."""
    return f"collapsed ({record.collapsed})" if record.collapsed else ""


def why_ended(record: TrialRecord, objective: Objective) -> str:
    """Why the trial trains no more, in words: at a rung with its value and the cutoff; or its state. And a collapse."""
    return _with_collapse(_why_ended(record, objective), record)


def _with_collapse(text: str, record: TrialRecord) -> str:
    parts = ["" if text == COLLAPSED else text, collapsed(record)]
    return ", ".join(part for part in parts if part) or text


def _why_ended(record: TrialRecord, objective: Objective) -> str:
    match record.status:
        case TrialStatus.STOPPED if compared := _compared(record, objective):
            return f"{record.stop_reason}: {compared}"
        case TrialStatus.COMPLETED | TrialStatus.STOPPED if record.stop_reason is not None:
            return record.stop_reason
        case TrialStatus.FAILED if record.error:
            return f"failed: {error_summary(record.error)}"
        case status:
            return status.value.lower()


def _ended(record: TrialRecord, objective: Objective) -> str:
    """The same in a few characters, beside a column of values."""
    return _with_collapse(_how_ended(record, objective), record)


def _how_ended(record: TrialRecord, objective: Objective) -> str:
    epochs, reason = f"{record.last_epoch} epoch{'s' * (record.last_epoch != 1)}", record.stop_reason
    match record.status:
        case TrialStatus.STOPPED if reason is not None:
            beside = f"{record.value(objective.metric):.4f} "  # in its own column
            compared = _compared(record, objective).removeprefix(beside).replace("averaged", "avg")
            return f"{reason} {compared}".strip()
        case TrialStatus.COMPLETED:
            return epochs if reason in (None, "epochs") else f"{epochs}, {reason}"
        case status:
            return f"{status.value.lower()}, {record.last_epoch}"


def _compared(record: TrialRecord, objective: Objective) -> str:
    """By which comparison the trial was stopped; empty where that is not why, as where others were promoted instead."""
    value, cutoff = record.seen(objective.metric).get(record.last_epoch, math.nan), record.cutoff
    if cutoff is None or not (value < cutoff if objective.mode == "max" else value > cutoff):
        return ""
    averaged = "averaged " * (value != record.value(objective.metric))
    return f"{averaged}{value:.4f} {'<' if objective.mode == 'max' else '>'} {cutoff:.4f}"


def print_trials(result: StudyResult, trials: Sequence[TrialRecord], console: Console) -> None:
    """A line for each trial, with as many of the searched settings as fit beside the rest."""
    metric = result.spec.objective.metric
    heads = ["trial", "from", "value", "ended"]
    lines = [
        [str(r.number), r.recipe or r.origin, _text(r.value(metric), 4), _ended(r, result.spec.objective)]
        for r in trials
    ]
    names, left = _short_names(_settings(result)), 0
    configs = [flatten(record.config) for record in trials]
    for path in sorted(names, key=lambda path: (not path.startswith("model."), [*NAMES, path].index(path))):
        cells = [_text(config.get(path)) for config in configs]
        widths = [max(map(len, [head, *(line[i] for line in lines)])) for i, head in enumerate(heads)]
        if sum(widths) + 2 * len(widths) + max(map(len, [names[path], *cells])) + 1 > console.width:
            left += 1
            continue
        heads.append(names[path])
        for line, cell in zip(lines, cells, strict=True):
            line.append(cell)
    count = f"{len(trials)} of {len(result.trials)}" if len(trials) < len(result.trials) else str(len(trials))
    title = f"{result.spec.study}: {count} trials; value is {metric}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, no_wrap=True)
    for record, line in zip(trials, lines, strict=True):
        style = None if record.status is TrialStatus.COMPLETED else STYLES[record.status]
        table.add_row(*line, style=style)
    console.print(table, markup=False)
    if left:
        console.print(f"{left} more setting{'s' * (left > 1)} in a file: --to trials.csv, .parquet or .md")


def write_table(result: StudyResult, trials: Sequence[TrialRecord], path: Path) -> None:
    """Write a row for each trial, with every searched setting by its dotted path, as the file's ending says.

    Raises:
        ConfigError: if it is neither .csv, .parquet nor .md, or cannot be written.
    """
    columns = _columns(result, trials)
    match path.suffix:
        case ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pa.table({name: column(values) for name, values in columns.items()})
            with replaced(path) as partial:
                pq.write_table(table, partial)
        case ".csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([columns, *zip(*columns.values(), strict=True)])
            write_text(path, text.getvalue())
        case ".md":
            rows: list[Iterable[Any]] = [columns, ["---"] * len(columns), *zip(*columns.values(), strict=True)]
            write_text(path, "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows))
        case _:
            raise ConfigError.single("--to", str(path), "must end in .csv, .parquet or .md")


def _columns(result: StudyResult, trials: Sequence[TrialRecord]) -> dict[str, list[Any]]:
    metric = result.spec.objective.metric
    of: dict[str, Callable[[TrialRecord], Any]] = {
        "trial": lambda record: record.number,
        "from": lambda record: record.origin,
        "status": lambda record: record.status.value,
        "epochs": lambda record: record.last_epoch,
        metric: lambda record: record.value(metric) if record.history else None,
        "ended": lambda record: why_ended(record, result.spec.objective),
        "rung": _rung,
        "cutoff": lambda record: record.cutoff,
    }
    configs = [flatten(record.config) for record in trials]
    return {name: [value(record) for record in trials] for name, value in of.items()} | {
        path: [config.get(path) for config in configs] for path in _settings(result)
    }


def _rung(record: TrialRecord) -> int | None:
    """The epoch of the rung at which the trial was stopped."""
    rung = (record.stop_reason or "").removeprefix("rung ")
    return int(rung) if record.status is TrialStatus.STOPPED and rung.isdecimal() else None


def _settings(result: StudyResult) -> list[str]:
    """The dotted paths of what is searched, in the order of the space."""
    return list(dict.fromkeys(path_of(key) for key in result.spec.parsed_space.domains()))


def _short_names(paths: Sequence[str]) -> Mapping[str, str]:
    """A name for each path that tells it from the others: its last part, or with the one before."""
    own = {path: NAMES.get(path) or path.removesuffix(".kind").rpartition(".")[2] for path in paths}
    counts = Counter(own.values())
    full = {path: name if counts[name] == 1 else path for path, name in own.items()}
    return {path: name if len(name) <= MOST_HEAD else name[: MOST_HEAD - 1] + "…" for path, name in full.items()}


def _text(value: object, digits: int | None = None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.2g}" if digits is None else f"{value:.{digits}f}"
    return str(value)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
