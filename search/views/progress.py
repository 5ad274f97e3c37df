"""What the person at the terminal sees while a search runs: a live panel, or plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.journal.cost import spent_of
from search.journal.error_text import error_summary
from search.journal.events import Event, SessionEnded, SessionStarted, TrialEnded, WorkerLost
from search.journal.records import COLLAPSED, TrialRecord, TrialStatus, best_of
from search.journal.reference import against_reference
from search.journal.state import StudyState
from search.study.spec import StudySpec
from search.views.console import say
from search.views.leaderboard import STYLES
from search.views.trials import collapsed

__all__ = ["Progress", "counted", "duration"]

QUIET_SECONDS = 60.0


def duration(seconds: float) -> str:
    """Seconds in words, in the unit that reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def counted(records: Iterable[TrialRecord]) -> list[str]:
    """How many trials are in each state, in words; states without any are left out."""
    counts = Counter(record.status for record in records)
    return [f"{counts[status]} {status.value.lower()}" for status in STYLES if counts[status]]


class Progress:
    """A listener of the driver's events, which shows one session from its first event to its last.

    As a context manager around the search it also ends the display if the session ends in an error.

    Args:
        spec: the study.
        state: the driver's, read only.
        console: where to draw. Unless it is a terminal, there is a line for each trial that ends, and one a minute.
    """

    def __init__(self, spec: StudySpec, state: StudyState, console: Console) -> None:
        self._spec, self._state, self._console = spec, state, console
        self._begin()
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self._panel, refresh_per_second=2)

    def _begin(self) -> None:
        self._started = self._last_line = time.monotonic()
        records = self._state.trials
        self._before = sum(len(record.history) for record in records)  # an earlier session's
        self._ended_before = sum(record.status.ended for record in records)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show what one event has changed."""
        if isinstance(event, SessionStarted):
            self._begin()
            if self._live is not None:
                self._live.start()
        elif isinstance(event, SessionEnded):
            self._stop()
        elif self._live is not None:
            return  # it redraws itself
        elif isinstance(event, TrialEnded):
            self._say(self._ending(self._state.records[event.trial]))
        elif isinstance(event, WorkerLost) and self._state.records[event.trial].status is TrialStatus.PENDING:
            self._say(self._worker_lost(event, self._state.records[event.trial]))
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._say("")

    def _say(self, what: str) -> None:
        self._last_line = time.monotonic()
        records = self._state.trials
        parts = [what, self._compared()]
        if not parts[1]:
            parts = [what, "  ".join(counted(records)), self._best(records), self._cost(), self._left(records)]
        line = f"[{duration(self._last_line - self._started):>6}] " + " | ".join(part for part in parts if part)
        say(self._console, line)

    def _ending(self, record: TrialRecord) -> str:
        metric = self._spec.objective.metric
        reason = f" ({record.stop_reason})" if record.stop_reason not in (None, "epochs", "diverged", COLLAPSED) else ""
        if record.error:
            reason = f": {error_summary(record.error)}"
        reason += f", {collapsed(record)}" if record.collapsed else ""
        at = f" {metric} {record.value(metric):.4f} at epoch {record.final_epoch}" if record.history else ""
        return f"{f'trial {record.number:>3} {record.origin:<14} {record.status.value.lower()}{reason}':<46}{at}"

    def _worker_lost(self, event: WorkerLost, record: TrialRecord) -> str:
        return f"trial {record.number:>3} {record.origin:<14} lost its worker ({event.cause}), gets another"

    def _best(self, records: list[TrialRecord]) -> str:
        best = best_of(records, self._spec.objective.metric, self._spec.objective.mode)
        if best is None:
            return "no trial has completed yet"
        value = best.value(self._spec.objective.metric)
        return f"best {value:.4f} (trial {best.number})" + against_reference(self._spec, records, best)

    def _cost(self) -> str:
        spending = self._state.spending
        spent = spent_of(spending.at(time.time()), self._spec.budget.max_cost)
        return f"cost {spent}" if spending.counted else ""

    def _compared(self) -> str:
        """How far the comparison under way is; empty if there is none."""
        comparison = next(reversed(self._state.comparisons), None)
        if comparison is None:
            return ""
        if comparison.ended is not None:
            scoring = comparison.opened is not None and not comparison.is_over
            current = scoring and not self._state.trained_since(comparison)
            return f"{comparison.kind}: scoring the winner on the test split" if current else ""
        ended, started = sum(run.status.ended for run in comparison.runs), comparison.started
        return f"{comparison.kind}: {ended} of at most {len(started.arms) * started.most_runs} runs"

    def _left(self, records: list[TrialRecord]) -> str:
        total, trained = self._spec.budget.trials, sum(len(record.history) for record in records)
        ended = [record for record in records if record.ended is not None]
        here = trained - self._before
        # The first seconds of a resumed session say nothing: its workers start, and all that ended was before.
        if here <= 0 or len(ended) < self._ended_before + (2 if self._before else 1):
            return f"{len(ended)} of {total} trials"
        # Recipes run to the end and come first, so that their cost says little about the rest.
        suggested = [record for record in ended if record.recipe is None] or ended
        per_trial = sum(len(record.history) for record in suggested) / len(suggested)
        under_way = trained - sum(len(record.history) for record in ended)
        epochs_left = max((total - len(ended)) * per_trial - under_way, 0.0)
        elapsed = time.monotonic() - self._started
        left = epochs_left * elapsed / here
        if self._spec.budget.hours is not None:
            left = min(left, max(self._spec.budget.hours * 3600 - elapsed, 0.0))
        spending = self._state.spending
        if self._spec.budget.max_cost is not None and spending.rate > 0:
            money = self._spec.budget.max_cost - spending.at(time.time())
            left = min(left, max(money, 0.0) / spending.rate * 3600)
        return f"{len(ended)} of {total} trials" + (f", about {duration(left)} left" if left >= 1 else "")

    def _panel(self) -> Group:
        records = list(self._state.records.values())  # a copy: this is called from rich's own thread
        metric = self._spec.objective.metric
        running = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("trial", "origin", "epoch", metric, "lr"):
            running.add_column(column)
        for record in records:
            if record.status is TrialStatus.RUNNING:
                last = record.history[-1] if record.history else None
                running.add_row(
                    str(record.number), record.origin, f"{last.epoch if last else 0}/{self._spec.budget.epochs}",
                    f"{last.metrics[metric]:.4f} {collapsed(record)}" if last else "-",
                    f"{last.metrics.get('lr', math.nan):.2e}" if last else "-",
                )  # fmt: skip
        elapsed = duration(time.monotonic() - self._started)
        searched = self._state.trials
        header = Text.assemble((self._spec.study, "bold"), f"   {elapsed}   {self._compared() or self._left(searched)}")
        states = Text("  ".join(counted(searched)) or "starting workers")
        lines = [header, states, Text(self._best(searched), style="green")]
        if cost := self._cost():
            lines.append(Text(cost))
        return Group(*lines, running) if running.row_count else Group(*lines)
