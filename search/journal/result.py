"""What a study has found so far: the object that the API returns and a notebook shows."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.journal.comparisons import Comparison, newest
from search.journal.cost import Spending
from search.journal.events import ComparisonKind, Event
from search.journal.records import Mode, TrialRecord, TrialStatus, best_of, ranked
from search.journal.state import StudyState
from search.journal.table import rows
from search.study.spec import StudySpec
from trainables.result import ClassReport

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["StudyResult", "collect"]

MOST_ROWS = 20  # of the table that a notebook shows


@dataclass(frozen=True, repr=False)
class StudyResult:
    """Everything a study has found so far.

    Attributes:
        spec: the study.
        trials: every trial of the search by number.
        versions, git, fingerprint: packages, commit of the code and prepared images of the last session.
        spending: what the study has cost, as far as its nodes have prices.
        folder: the study's; None if it is not on disk.
        finished: whether the budget is used up and every trial has ended.
        finished_before: whether that was so before this call, which then trained nothing.
        trouble: why the search stopped early, other than an interrupt.
        images: what the last session read, three lines for each source of images.
        weights: what the last session loaded of pretrained weights, two lines for each file.
        comparisons: every refit and explanation in order, with its runs.
    """

    spec: StudySpec
    trials: list[TrialRecord]
    versions: Mapping[str, str] = field(default_factory=dict)
    git: str | None = None
    fingerprint: str | None = None
    spending: Spending = field(default_factory=Spending)
    folder: Path | None = None
    finished: bool = False
    finished_before: bool = False
    trouble: str | None = None
    images: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    comparisons: list[Comparison] = field(default_factory=list)

    @classmethod
    def of(cls, spec: StudySpec, state: StudyState, folder: Path | None = None) -> StudyResult:
        """The result of a study in this state."""
        found = cls(
            spec, state.trials, spending=state.spending, folder=folder, finished=state.is_over(spec),
            comparisons=list(state.comparisons),
        )  # fmt: skip
        if (made := state.started) is None:
            return found
        return replace(
            found, versions=made.versions, git=made.git, fingerprint=made.fingerprint, images=made.images,
            weights=made.weights,
        )  # fmt: skip

    def best(self, metric: str | None = None, mode: Mode | None = None) -> TrialRecord | None:
        """The trial of the search with the best value at its last epoch, of those that trained all their epochs.

        With patience it is the value at the epoch of the lowest val_loss, and trials whose patience was used up count,
        too; of equal ones the earlier is taken. `winner` is what a refit over fresh seeds made of it. None without one.

        Args:
            metric: another than the study's objective.
            mode: which side of it is better.
        """
        objective = self.spec.objective
        return best_of(self.trials, metric or objective.metric, mode or objective.mode)

    def winner(self) -> TrialRecord | None:
        """The trial of best_config.yaml: that of the last refit's winner, unless the search went on since; else `best`.

        A winner that no trial of the search was, such as a config from a file, is the record of its first refit run.
        """
        refit = self.deciding_refit
        if refit is None or refit.winner is None:
            return self.best()
        arm = refit.winner
        if (found := next((record for record in self.trials if record.number == arm.trial), None)) is not None:
            return found
        run = next(refit.of_arm(arm.name))
        return replace(run, config=arm.config, history=()) if refit.started.folds else run  # not on a fold

    @property
    def deciding_refit(self) -> Comparison | None:
        """The last refit, if it has a winner and the search has not gone on since."""
        refit = self.latest("refit")
        return refit if refit is not None and refit.winner is not None and refit.follows(self.trials) else None

    def latest(self, kind: ComparisonKind) -> Comparison | None:
        """The last refit, or explanation, that has ended; None without one."""
        return newest(self.comparisons, kind, ended=True)

    def winning_runs(self) -> list[TrialRecord]:
        """The runs of the last refit's winner, unless the search went on since; else the best trial, if there is one.

        Those that ended before results said so are left out: each has a `report` on its classes.
        """
        refit, best = self.deciding_refit, self.best()
        runs: list[TrialRecord] = []
        if refit is not None and refit.winner is not None:
            runs = [run for run in refit.of_arm(refit.winner.name) if run.report is not None]
        return runs or ([best] if best is not None and best.report is not None else [])

    def class_report(self) -> ClassReport | None:
        """What the winner gets right class by class, and its calibration, on validation images: all runs together.

        None before the first trial has completed, and where there are no images.
        """
        reports = [run.report for run in self.winning_runs() if run.report is not None]
        return ClassReport.together(reports) if reports else None

    def table(self) -> pa.Table:
        """A row per trial and epoch, as `rows` describes; `.to_pandas()` makes it a data frame."""
        return rows(self.trials)

    def curves(self, metric: str | None = None) -> dict[int, list[tuple[int, float]]]:
        """Epoch and value of the objective (or of `metric`) by trial: `plt.plot(*zip(*result.curves()[3]))`.

        Trials without an epoch are left out; a metric that an epoch does not have is NaN.
        """
        name = metric or self.spec.objective.metric
        return {
            record.number: [(epoch.epoch, epoch.metrics.get(name, math.nan)) for epoch in record.history]
            for record in self.trials
            if record.history
        }

    def __repr__(self) -> str:
        return f"<StudyResult {self._headline()}>"

    def _repr_html_(self) -> str:
        """The best trials as a table, for notebooks."""
        objective = self.spec.objective
        shown = ranked(self.trials, objective.metric, objective.mode)[:MOST_ROWS]
        heads = ("trial", "from", "status", "epochs", objective.metric, "hyperparameters")
        body = "".join(_html_row(self._cells(record), "td") for record in shown)
        more = f" ({MOST_ROWS} shown)" if len(self.trials) > MOST_ROWS else ""
        caption = html.escape(self._headline() + more)
        return (
            f"<table><caption>{caption}</caption><thead>{_html_row(heads, 'th')}</thead><tbody>{body}</tbody></table>"
        )

    def _headline(self) -> str:
        best, metric = self.best(), self.spec.objective.metric
        value = "none has completed yet" if best is None else f"best {metric} {best.value(metric):.4f} ({best.number})"
        refit = self.deciding_refit
        won = f", the refit's winner is {refit.winner.name}" if refit is not None and refit.winner is not None else ""
        return f"{self.spec.study}: {len(self.trials)} trials, {value}{won}"

    def _cells(self, record: TrialRecord) -> Iterator[str]:
        value = record.value(self.spec.objective.metric)
        yield str(record.number)
        yield record.recipe or record.origin
        stopped = record.status is TrialStatus.STOPPED and record.stop_reason
        yield record.status.value.lower() + (f" ({record.stop_reason})" if stopped else "")
        yield str(record.last_epoch)
        yield f"{value:.4f}" if math.isfinite(value) else "-"
        values = (record.values or {}).items()
        yield ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values)


def _html_row(cells: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def collect(spec: StudySpec, events: Iterable[Event], folder: Path | None = None) -> StudyResult:
    """The result of a study after these events; `folder` is the study's.

    Raises:
        ConfigError: as `journal.read` and `StudyState.apply` do.
    """
    return StudyResult.of(spec, StudyState.of(events), folder)
