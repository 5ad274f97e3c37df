"""`--dry-run`: what a search would do and cost, from its spec and a few timed steps, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from search.algorithms.forecast import Survival, expected_survivors
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import combinations
from search.journal.cost import amount, hourly
from search.planning.calibration import Calibration, Plan
from search.planning.disk import needed_bytes
from search.planning.plausibility import implausible_trials
from search.study.overrides import shortened_grace
from search.study.spec import StudySpec
from search.views.console import say
from search.views.progress import duration
from spaces import space_rows

__all__ = ["about", "combinations_line", "grace_line", "print_plan"]


def print_plan(plan: Plan, console: Console, *, verbose: bool = False) -> None:
    """Print time, cost, epochs and survivors, then what they follow from.

    Args:
        plan: of the search.
        console: where to print.
        verbose: print the whole study, its space and the survivors of each rung as well.
    """
    spec, calibration = plan.spec, plan.calibration
    trials = _most_trials(spec)
    survival = expected_survivors(lambda: build_scheduler(spec), trials, spec.budget.epochs)
    # Trials that share a GPU share its speed, too.
    at_once = max(min(plan.concurrent, trials) * min(spec.resources.gpus or 1.0, 1.0), 1.0)
    seconds, runs, own = calibration.seconds(survival.epochs, trials, at_once), spec.most_refit_runs, _own(plan)
    scored = spec.most_scored(own.test_images)
    more = own.refit_seconds(spec.budget.epochs, runs, at_once, scored) if runs else None
    refit = f", then a refit of about {about(more)}, or less" if more else ""
    say(console, _time_line(plan, seconds, refit))
    if spec.resources.prices is not None:
        say(console, cost_line(spec, None if seconds is None else seconds + (more or 0.0), plan.nodes))
    say(console, _epochs_line(survival, trials * spec.budget.epochs, runs * spec.budget.epochs))
    say(console, _survivors_line(spec, survival, trials))
    sizes = [calibration.checkpoint_bytes, own.checkpoint_bytes]
    shown = " and ".join(dict.fromkeys(f"{size / 1e6:.1f}" for size in sizes))
    disk = needed_bytes(spec, survival, plan.concurrent, sizes)
    say(console, f"disk: at most about {disk / 1e6:,.0f} MB, with checkpoints of {shown} MB")
    if possible := combinations_line(spec):
        say(console, possible)
    if spec.recipes:
        say(console, f"first trials: {', '.join(spec.recipes)} (recipes)")
    if spec.resources.gpus_per_trial == "auto":
        say(console, "GPUs a trial: measured when the search starts; planned here with a whole one")
    for line in implausible_trials(spec):
        say(console, f"warning: {line}", style="yellow")
    for line in (*plan.images, *plan.weights, *plan.prior):
        say(console, line)
    if not verbose:
        say(console, "the whole study and its space: --dry-run --verbose")
        return
    console.print(_space(spec))
    console.print(_survivors(spec, survival))
    say(console, spec.dump())


def _own(plan: Plan) -> Calibration:
    """Of what the refit trains."""
    return plan.calibration if plan.own is None else plan.own


def _time_line(plan: Plan, seconds: float | None, refit: str) -> str:
    spec, calibration = plan.spec, plan.calibration
    hours = f", cut off after {spec.budget.hours:g} h" if spec.budget.hours is not None else ""
    at_once = f"{plan.concurrent} trial{'s' * (plan.concurrent > 1)} at once"
    if seconds is None or calibration.epoch_seconds is None:  # the head of a cluster, whose GPUs are on other machines
        return f"time: not known, {at_once}: this machine has no GPU to time an epoch on{hours}"
    epoch = _epoch(calibration.epoch_seconds)
    start = f"{about(calibration.start_seconds)} to start, {epoch} s an epoch for {calibration.of}"
    if spec.proxy is not None and plan.own is not None and plan.own.epoch_seconds is not None:
        own = plan.own.epoch_seconds
        start += f" {spec.proxy.words} and {_epoch(own)} s for the study's own network"
    return f"time: about {about(seconds)}{refit}, {at_once}: {start}, timed on this machine as it is now{hours}"


def _epoch(seconds: float) -> str:
    return f"{seconds:.1g}" if seconds < 1 else f"{seconds:.0f}"


def about(seconds: float) -> str:
    """Seconds in words, no more precise than an estimate is."""
    if seconds < 85:
        return f"{max(5 * round(seconds / 5), 5)} s"
    if seconds < 175:
        return f"{round(seconds, -1):.0f} s"
    minutes = seconds / 60
    if minutes < 85:
        return f"{minutes if minutes < 9.5 else 5 * round(minutes / 5):.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 9.5 else f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def _epochs_line(survival: Survival, most: int, refit: int) -> str:
    """How many epochs are trained in all, and how many it would be if no trial were stopped early."""
    trained = round(survival.epochs)
    instead = f"{most} without early stopping" if trained < most else "no trial is expected to be stopped early"
    return f"epochs: about {trained} ({instead}){f', then at most {refit} of refit' if refit else ''}"


def _survivors_line(spec: StudySpec, survival: Survival, trials: int) -> str:
    """How many trials get how far, at the rungs that stop some."""
    goals = {f"epoch {level}": round(count) for level, count in survival.reached.items() if round(count) < trials}
    parts = [
        f"{n} reach{'es' * (n == 1)} {goal}" for goal, n in (goals | {"the end": round(survival.finished)}).items()
    ]
    return f"trials: {trials}, of which about {', '.join(parts)}"


def grace_line(study: object, spec: StudySpec) -> str | None:
    """That fewer epochs have shortened the grace period of `study`, as it was read; None if they have not."""
    change = shortened_grace(study, spec)
    if change is None:
        return None
    before, now = change
    epochs = f"{spec.budget.epochs} epoch{'s' * (spec.budget.epochs > 1)}"
    another = "--set scheduler.grace_period=N sets another"
    return f"grace period: {now} instead of {before}, for trials of {epochs}; {another}"


def recipe_lines(spec: StudySpec) -> Iterator[str]:
    """Whether anything but recipes is tried; which of them are made for longer runs, and what is tried of those."""
    if spec.space and len(spec.recipes) >= spec.budget.trials:
        few = f"recipes are tried first, and these are {len(spec.recipes)} of {spec.budget.trials} trials"
        yield f"warning: nothing of the space is tried: {few}; --trials {len(spec.recipes) + 8} tries 8 suggestions"
    for name, recipe in spec.recipes.items():
        if recipe.is_too_long(spec.budget.epochs):
            tried = "tried in its short form" if recipe.short is not None else "here no baseline: it has no short form"
            yield f"recipe {name} is made for {recipe.epochs} epochs, and with {spec.budget.epochs} {tried}"


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


def _space(spec: StudySpec) -> Table:
    table = Table(title="space", title_justify="left")
    for column in ("parameter", "values", "when"):
        table.add_column(column, overflow="fold")
    for row in space_rows(spec.parsed_space):
        table.add_row(*row)
    return table


def _survivors(spec: StudySpec, survival: Survival) -> Table:
    table = Table(title="expected survivors", title_justify="left")
    table.add_column("epoch", justify="right")
    table.add_column("trials that reach it", justify="right")
    for level, count in survival.reached.items():
        table.add_row(str(level), f"{count:.1f}")
    table.add_row(f"{spec.budget.epochs} (the end)", f"{survival.finished:.1f}")
    return table
