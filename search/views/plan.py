"""`--dry-run`: what a search would do and cost, from its spec and a few timed steps, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from search.algorithms.forecast import Survival, expected_survivors
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import combinations
from search.journal.cost import amount, hourly
from search.planning.calibration import Plan
from search.planning.disk import needed_bytes
from search.study.overrides import shortened_grace
from search.study.spec import StudySpec
from search.views.console import say
from search.views.progress import duration
from spaces import space_rows

__all__ = ["combinations_line", "grace_line", "print_plan"]


def print_plan(plan: Plan, console: Console) -> None:
    """Print the resolved study, its space, the expected survivors of each rung, epochs, disk, time and cost."""
    spec, concurrent, calibration = plan.spec, plan.concurrent, plan.calibration
    say(console, spec.dump())
    for line in (*plan.images, *plan.weights, *plan.prior):
        say(console, line)
    space = Table(title="space", title_justify="left")
    for column in ("parameter", "values", "when"):
        space.add_column(column, overflow="fold")
    for row in space_rows(spec.parsed_space):
        space.add_row(*row)
    console.print(space)
    trials = _most_trials(spec)
    console.print(combinations_line(spec) or "combinations in the space: without end")
    survival = expected_survivors(lambda: build_scheduler(spec), trials, spec.budget.epochs)
    console.print(_survivors(spec, survival))
    disk = needed_bytes(spec, survival, concurrent, calibration.checkpoint_bytes)
    console.print(f"epochs in all: about {survival.epochs:.0f} (of {trials * spec.budget.epochs} without stopping)")
    console.print(
        f"disk needed: about {disk / 1e6:,.0f} MB, with checkpoints of {calibration.checkpoint_bytes / 1e6:.1f} MB"
    )
    hours = f", cut off after {spec.budget.hours:g} h" if spec.budget.hours is not None else ""
    if calibration.epoch_seconds is None:  # the head of a cluster, whose GPUs are on other machines
        seconds = None
        console.print(f"time: not known, {concurrent} at once: this machine has no GPU to time an epoch on{hours}")
    else:
        # Trials that share a GPU share its speed, too.
        shared = spec.resources.gpus or 1.0
        seconds = survival.epochs * calibration.epoch_seconds / max(concurrent * min(shared, 1.0), 1.0)
        console.print(
            f"time: about {duration(seconds)} with {concurrent} at once ({calibration.epoch_seconds:.2f} s an epoch of "
            f"the trial defaults, timed alone on this machine), after half a minute to start{hours}"
        )
    if spec.resources.gpus_per_trial == "auto":
        console.print("GPUs a trial: measured when the search starts; planned here with a whole one")
    if spec.resources.prices is not None:
        say(console, cost_line(spec, seconds, plan.nodes))


def grace_line(study: object, spec: StudySpec) -> str | None:
    """That fewer epochs have shortened the grace period of `study`, as it was read; None if they have not."""
    change = shortened_grace(study, spec)
    if change is None:
        return None
    before, now = change
    epochs = f"{spec.budget.epochs} epoch{'s' * (spec.budget.epochs > 1)}"
    return (
        f"grace period: {now} instead of {before}, for trials of {epochs}; --set scheduler.grace_period=N sets another"
    )


def combinations_line(spec: StudySpec) -> str | None:
    """How many combinations the searcher can suggest, and what that means for the budget; None if there is no end."""
    found, trials = combinations(spec), spec.budget.trials
    if found is None:
        return None
    line = f"combinations in the space: {found:,}{' (of the grid)' if spec.searcher.kind == 'grid' else ''}"
    if (most := _most_trials(spec)) < trials:
        return f"{line}; the search ends when each was tried once, after at most {most} of {trials} trials"
    return line if len(spec.recipes) + found == trials else f"{line}, of which {trials} trials try a part"


def _most_trials(spec: StudySpec) -> int:
    found = combinations(spec)
    return spec.budget.trials if found is None else min(spec.budget.trials, len(spec.recipes) + found)


def cost_line(spec: StudySpec, seconds: float | None, nodes: Mapping[str, int]) -> str:
    """What a search of so many seconds (None: not known) on the nodes of now costs, and where its limit would end it.

    Raises:
        ValueError: if the study has no prices.
    """
    prices, hours, most = spec.resources.prices, spec.budget.hours, spec.budget.max_cost
    if prices is None:
        raise ValueError("a study without prices has no cost")
    rate = hourly(prices, nodes)
    which = ", ".join(f"{count} {name}" for name, count in nodes.items()) + " up now"
    if seconds is None:
        line = f"cost: {amount(rate)} an hour, with {which}"
        return line if most is None else f"{line}; cut off at {amount(most)}, after {duration(most / rate * 3600)}"
    cost = rate * min(seconds / 3600, hours if hours is not None else seconds / 3600)
    line = f"cost: about {amount(cost)}, with {which}, for {amount(rate)} an hour together"
    if most is None:
        return line
    if cost <= most:
        return f"{line}; at most {amount(most)}"
    share = f"{100 * most / (rate * seconds / 3600):.0f} %"
    return f"{line}; cut off at {amount(most)}, after about {duration(most / rate * 3600)} and {share} of it"


def _survivors(spec: StudySpec, survival: Survival) -> Table:
    table = Table(title="expected survivors", title_justify="left")
    table.add_column("epoch", justify="right")
    table.add_column("trials that reach it", justify="right")
    for level, count in survival.reached.items():
        table.add_row(str(level), f"{count:.1f}")
    table.add_row(f"{spec.budget.epochs} (the end)", f"{survival.finished:.1f}")
    return table
