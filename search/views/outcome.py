"""What `search.run` prints when a search has ended, and what its exit code says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from search.analysis.finalists import refit_outcome
from search.journal.cost import spent_of
from search.journal.records import TrialStatus
from search.journal.reference import against_reference
from search.journal.result import StudyResult
from search.tracking.uri import default_uri
from search.views.checks import print_alarms
from search.views.console import say
from search.views.leaderboard import print_leaderboard
from search.views.next_commands import SUBMITTED_BY, after_search, open_mlflow, resume, shown
from search.views.refit import chosen_trial, show_refit

__all__ = ["print_outcome"]

FAILURES = {TrialStatus.FAILED, TrialStatus.DIVERGED}


def print_outcome(result: StudyResult, out: Path, console: Console) -> int:
    """Print what was found and what to do next.

    Returns:
        The exit code: 0; 1 if every trial failed or the search could not continue, 130 if it was interrupted.
    """
    spec, folder, chosen = result.spec, out / result.spec.study, chosen_trial(result)
    failed = result.finished and FAILURES.issuperset(trial.status for trial in result.trials)
    submitted = SUBMITTED_BY in os.environ
    if result.finished_before:
        say(console, f"{spec.study} is finished, and nothing was trained now: {_found(result)}", "bold")
    print_leaderboard(spec, result.trials, console)
    if (refit := result.latest("refit")) is not None:
        show_refit(refit_outcome(result, refit), console)
    if not result.finished:
        # Not the command that was typed: --fresh would begin anew.
        way = "The same command continues." if submitted else f"To continue:\n  {resume(folder)}"
        saved = ", ".join(["finished work is saved", *_unfinished(result)])
        say(console, f"{result.trouble or 'interrupted'}: {saved}. {way}\n")
    if chosen is None:
        what = "every trial failed or diverged" if failed else "no trial ran to its end"
        say(console, f"{what}, so there is no best config; every result is in {shown(folder)}")
    elif (folder / "best_config.yaml").exists() and not submitted:
        which = f"trial {chosen[0].number}" + ", the refit's winner" * (chosen[2] is not None)
        say(console, f"best config: {shown(folder / 'best_config.yaml')} ({which})\n")
        say(console, "next:" if result.finished else "meanwhile:")
        for line in after_search(result, folder, open_mlflow(default_uri(out), folder)):
            say(console, f"  {line}")
    if result.spending.counted:
        say(console, f"cost: {spent_of(result.spending.spent, spec.budget.max_cost)}")
    print_alarms(result, console, command=not submitted)
    if result.finished_before and not submitted:
        say(console, "\nto go on:")
        for line in _ways_on(result, folder):
            say(console, f"  {line}")
    return int(failed) if result.finished else 1 if result.trouble else 130


def _unfinished(result: StudyResult) -> Iterator[str]:
    waiting = sum(not record.status.ended for record in result.trials)
    if waiting:
        yield f"{waiting} trial{' waits' if waiting == 1 else 's wait'} to be resumed"
    last = result.comparisons[-1] if result.comparisons else None
    if last is not None and not last.is_over:
        yield f"the {last.kind} is not over" if last.ended is None else f"the {last.kind} lacks its test score"


def _found(result: StudyResult) -> str:
    spec, best = result.spec, result.best()
    metric = spec.objective.metric
    trials = f"{len(result.trials)} of {spec.budget.trials} trials"
    if best is None:
        return f"{trials}, of which none ran to its end"
    gain = against_reference(spec, result.trials, best)
    return f"{trials}, best {metric} {best.value(metric):.4f} (trial {best.number}){gain}"


def _ways_on(result: StudyResult, folder: Path) -> Iterator[str]:
    """The commands that train more: what the budget was used up of must grow, or the study begin anew."""
    budget, command = result.spec.budget, resume(folder)
    if len(result.trials) >= budget.trials:
        yield f"{command} --trials {2 * budget.trials}   # more trials, which learn from these"
    else:
        out_of_money = budget.max_cost is not None and result.spending.spent >= budget.max_cost
        limit = "--max-cost" if out_of_money else "--hours"
        yield f"{command} {limit} MORE   # the trials that are left"
    yield f"{command} --fresh   # the whole search again, beside this one"
