"""What MLflow shows first of a study: a line over its table of trials, that table, and the page of the search's run.

MLflow 3.17's table has no column for a metric or a parameter unless the user, or a shared view, selects them. A view is
a tag of the experiment, as its page's own Share button writes it, and an address names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

from search.journal.comparisons import Comparison, newest
from search.journal.records import TrialRecord, TrialStatus, best_of, ranked
from search.journal.reference import against_reference, reference
from search.study.spec import StudySpec
from search.tracking.uri import page_of_run
from search.tracking.values import OWN, parameters
from spaces.space import path_of

__all__ = ["FrontPage", "searched_paths", "table_view"]

SHOWN = 10  # trials in the description of the search's run
RUN_NAME, WIDTH = "attributes.`Run Name`", 230  # a column, and its width in pixels
MOST_NOTE = 7000  # characters; MLflow takes 8,000


def searched_paths(spec: StudySpec) -> list[str]:
    """The config paths that the study searches, as they stand in its YAML, each once."""
    return list(dict.fromkeys(path_of(key) for key in spec.parsed_space.domains()))


def table_view(spec: StudySpec) -> str:
    """The view of a study's trials: best first, with the objective and what was searched."""
    objective = spec.objective
    sort = f"metrics.`{objective.metric}`"
    columns = [sort, "metrics.`epochs`", *(f"params.`{path}`" for path in searched_paths(spec))]
    view = {
        "searchFilter": f"tags.`{OWN}phase` = 'search'",
        "orderByKey": sort,
        "orderByAsc": objective.mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {RUN_NAME: WIDTH},
    }
    return json.dumps(view)


class FrontPage:
    """The texts about a search, in Markdown.

    Args:
        spec: the study.
        records: the search's trials.
        experiment_id: MLflow's.
        run_ids: MLflow's run of each trial that has one; the trial's number leads there.
        comparisons: all of the study.
    """

    def __init__(
        self, spec: StudySpec, records: Sequence[TrialRecord], experiment_id: str, run_ids: Mapping[int, str],
        comparisons: Sequence[Comparison] = (),
    ) -> None:  # fmt: skip
        self._spec, self._records, self._comparisons = spec, records, comparisons
        self._experiment, self._run_ids = experiment_id, run_ids
        self._metric, self._mode = spec.objective.metric, spec.objective.mode
        self._paths = searched_paths(spec)
        self._best = best_of(records, self._metric, self._mode)

    def headline(self, search_run: str) -> str:
        """The best trial in a line, which leads to the search's run and is the first of the experiment's page."""
        refit = newest(self._comparisons, "refit", ended=True)
        verdict = "" if refit is None else f" Refit: {_verdict(refit)}."
        files = f"[Leaderboard, best settings, files]({page_of_run(self._experiment, search_run)})"
        return f"{self._best_line()}{verdict} {files}\n\n{self._spec.description}".strip()

    def description(self) -> str:
        """For the search's run: the best trial and its parameters, the leading trials, and what comparisons said."""
        parts = [self._best_line(), *(self._compared(c) for c in self._comparisons if c.ended is not None)]
        if self._best is not None:
            found = parameters(self._best.config, self._paths)
            rows = [[f"`{path}`", _short(value)] for path, value in found.items()]
            parts.append(_markdown(["setting", f"trial {self._best.number}"], rows))
            parts.append(
                "`python -m trainables.train best_config.yaml`, with the file from Artifacts, trains the best config "
                "again: this one, or the winner of a refit. "
                f"`python -m search.export {self._spec.study} --trial N` writes the config of another trial."
            )
        parts.append(self._table(ranked(self._records, self._metric, self._mode)[:SHOWN], ()))
        parts.append(f"All trials with all settings: `leaderboard.md` below Artifacts. {self._spec.description}")
        return "\n\n".join(parts)[:MOST_NOTE]

    def leaderboard(self) -> str:
        """Every trial, best first, with what was searched."""
        return self._table(ranked(self._records, self._metric, self._mode), self._paths) + "\n"

    def _best_line(self) -> str:
        if self._best is None:
            return "**No trial has completed yet.**"
        gain = against_reference(self._spec, self._records, self._best)
        return f"**Best: trial {self._link(self._best)}, {self._metric} {self._best.value(self._metric):.4f}{gain}.**"

    def _compared(self, comparison: Comparison) -> str:
        values, tested = comparison.values(self._metric), comparison.test_values("accuracy")
        heads = ["arm", "runs", f"mean {self._metric}", *(["mean test accuracy"] if tested else [])]
        rows = []
        for arm, found in values.items():
            row = [arm, str(len(found)), _mean(found.values())]
            rows.append([*row, _mean(tested.get(arm, {}).values())] if tested else row)
        verdict = f": {_verdict(comparison)}" if comparison.kind == "refit" else ""
        return f"**{comparison.kind.capitalize()} {comparison.number}{verdict}**\n\n{_markdown(heads, rows)}"

    def _table(self, records: Sequence[TrialRecord], paths: Sequence[str]) -> str:
        against = reference(self._spec, self._records)
        heads = ["trial", "from", "epochs", self._metric, *([] if against is None else [f"vs {against[0]}"]), *paths]
        rows = []
        for record in records:
            value = record.value(self._metric)
            epochs = str(record.last_epoch)
            if record.status is not TrialStatus.COMPLETED:
                epochs += f" {record.status.lower()}"
            row = [self._link(record), record.recipe or record.origin, epochs, _number(value, ".4f")]
            if against is not None:
                row.append(_number(value - against[1], "+z.4f"))
            found = parameters(record.config, paths)
            rows.append([*row, *(_short(found.get(path, "")) for path in paths)])
        return _markdown(heads, rows)

    def _link(self, record: TrialRecord) -> str:
        run = self._run_ids.get(record.number)
        return f"[{record.number}]({page_of_run(self._experiment, run)})" if run else str(record.number)


def _verdict(refit: Comparison) -> str:
    if refit.winner is None or refit.ended is None:
        return "no winner"
    how = {"decided": "wins", "tie": "leads, a tie"}.get(refit.ended.reason, f"leads ({refit.ended.reason})")
    return f"{refit.winner.name} {how}"


def _mean(values: Iterable[float]) -> str:
    """Of the runs; "-" without one, or if one has failed."""
    found = list(values)
    return _number(sum(found) / len(found), ".4f") if found else "-"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def _short(value: str) -> str:
    """A parameter as a reader wants it: four digits of a fraction."""
    try:
        return f"{float(value):.4g}" if "." in value or "e-" in value else value
    except ValueError:
        return value


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
