"""Checks of the learning curves: early epochs against the last, the length of training, other stopping rules."""

from __future__ import annotations

import math
from statistics import median, pstdev

from search.algorithms.schedulers.halving import rung_levels
from search.analysis.measures import (
    SHARES,
    completed,
    jitter,
    noise,
    number_of_trials,
    rank_correlation,
    side,
    values_of,
)
from search.analysis.replay import Replay, replays, rung_settings
from search.journal.records import TrialRecord, at_rung
from search.journal.result import StudyResult
from search.study.settings import HalvingSettings, NoSchedulerSettings
from trainables.check import Check

__all__ = ["early_ranks", "other_rules", "training_length"]

FEW = 10  # whole curves below which ranks say nothing
LOW, GOOD = 0.3, 0.6  # rank correlation with the end
MATERIAL = 0.005  # of accuracy, that is worth longer training
DECAYING = ("step", "cosine", "one_cycle")
SAVING = 0.4  # of the epochs, that is worth another stopping rule


def early_ranks(result: StudyResult) -> Check:
    """Whether the order at the first rung tells that at the end, among trials that reached the end."""
    name, spec = "early ranks", result.spec
    if isinstance(spec.scheduler, NoSchedulerSettings):
        return Check(name, "ok", "nothing was stopped early")
    if not isinstance(spec.scheduler, HalvingSettings):
        return Check(name, "unknown", f"when {spec.scheduler.kind} judges is not known here")
    metric, epochs = spec.objective.metric, spec.budget.epochs
    ended = [record for record in completed(result) if record.last_epoch == epochs]
    if len(ended) < FEW:
        return Check(name, "unknown", f"{number_of_trials(len(ended))} reached the end; at least {FEW} are needed")
    last = [record.value(metric) for record in ended]
    if pstdev(last) < 2 * (noise(result) or 0.0):
        return Check(name, "unknown", f"the {len(ended)} trials that reached the end differ by little more than noise")
    found = [rank_correlation([_at(r, metric, epoch) for r in ended], last) for epoch in range(1, epochs + 1)]
    levels = rung_levels(spec.scheduler.grace_period, spec.scheduler.reduction_factor, epochs)
    text = f"{', '.join(f'{found[level - 1]:.2f} at epoch {level}' for level in levels)} ({len(ended)} trials)"
    first = found[levels[0] - 1]
    if first >= LOW or _highest(first, len(ended)) >= 0.7:
        return Check(name, "ok", f"rank correlation with the end: {text}")
    good = next(epoch for epoch, value in enumerate(found, start=1) if value >= GOOD or epoch == epochs)
    change = f"grace_period={good}" if good <= 2 * epochs / 3 else "kind=hyperband"
    step = f"{{search}} --set scheduler.{change} --fresh   # judge later"
    return Check(name, "warning", f"early ranks do not predict the last: rank correlation {text}", step)


def _at(record: TrialRecord, metric: str, epoch: int) -> float:
    return next((at_rung(e.metrics, metric) for e in record.history if e.epoch == epoch), math.nan)


def _highest(correlation: float, count: int) -> float:
    """The upper end of a one-sided 90 % interval (Fisher's transformation)."""
    return math.tanh(math.atanh(max(min(correlation, 0.999), -0.999)) + 1.28 * 1.03 / math.sqrt(count - 3))


def training_length(result: StudyResult) -> Check:
    """Whether the best trials, or a recipe, were still getting better when their epochs were used up.

    They were where the last fifth of the run gained more than noise and more than half a point of accuracy, or 2 % of
    a loss.
    """
    name, epochs, ended = "length of training", result.spec.budget.epochs, completed(result)
    top = [record for record in ended if record.recipe is None][:3] or ended[:3]
    if not top:
        return Check(name, "unknown", "no trial ran to its end")
    early = [r for r in top if r.stop_reason == "patience" and _schedule(r) in DECAYING and r.last_epoch < 0.6 * epochs]
    if early:
        text = f"patience ended trial {early[0].number} at epoch {early[0].last_epoch} of {epochs}, before its "
        step = "{search} --set regularization.patience=null --fresh"
        return Check(name, "warning", f"{text}{_schedule(early[0])} schedule had lowered the learning rate", step)
    if epochs < 5:
        return Check(name, "unknown", f"{epochs} epochs are too few to see a trend at their end")
    span = max(2, epochs // 5)
    rise = median(_gain(result, record, span) for record in top)
    rising = {record.recipe: _gain(result, record, span) for record in ended if record.recipe is not None}
    least = _material(result, top[0])
    step = f"{{search}} --epochs {2 * epochs} --fresh"
    if rise > least:
        text = f"the best {len(top)} trials still gained {rise:.3g} in the last {span} of {epochs} epochs"
        return Check(name, "warning", text, step)
    late = [f"{recipe} {gain:.3g}" for recipe, gain in rising.items() if gain > least]
    if late:
        text = f"recipes still gained in the last {span} of {epochs} epochs: {', '.join(late)}; longer runs may "
        return Check(name, "warning", f"{text}change their places", step)
    return Check(name, "ok", f"the best {len(top)} trials gained {rise:.2g} in the last {span} of {epochs} epochs")


def _schedule(record: TrialRecord) -> str:
    return str(record.config["schedule"]["kind"])


def _gain(result: StudyResult, record: TrialRecord, span: int) -> float:
    values = values_of(record, result.spec.objective.metric)
    gain = side(result) * (values[-1] - values[-1 - span]) if len(values) > span else 0.0
    return gain if math.isfinite(gain) else 0.0


def _material(result: StudyResult, record: TrialRecord) -> float:
    metric = result.spec.objective.metric
    worth = MATERIAL if metric in SHARES else 0.02 * abs(record.value(metric))
    return max(worth, 3 * (jitter(result) or 0.0))


def other_rules(result: StudyResult) -> Check:
    """What other stopping rules would have trained on the recorded curves, and whether they would keep the winner."""
    name, best, kind = "stopping rules", result.best(), result.spec.scheduler.kind
    if best is None or len(result.trials) < FEW:
        return Check(
            name, "unknown", f"{number_of_trials(len(result.trials))}; at least {FEW}, with a best one, are needed"
        )
    found = replays(result)
    text = ", ".join(f"{rule} {_told(one, best.number)}" for rule, one in found.items())
    settings = rung_settings(result)
    text += f" (grace_period {settings.grace_period}, reduction_factor {settings.reduction_factor})"
    if any(one.open for one in found.values()):
        text += "; + is at least so many: curves that were stopped early only go so far"
    if kind not in found:
        text += f"; {kind} itself is left out"
    saving = {rule: 1 - one.epochs / found["none"].epochs for rule, one in found.items() if best.number in one.finished}
    rule = max(saving, key=lambda rule: saving[rule])
    if kind == "none" and saving[rule] >= SAVING and not found[rule].open:
        step = f"{{search}} --set scheduler.kind={rule} --fresh"
        return Check(
            name, "warning", f"{rule} would have kept the winner with {saving[rule]:.0%} fewer epochs: {text}", step
        )
    return Check(name, "ok", f"epochs on these curves: {text}")


def _told(one: Replay, winner: int) -> str:
    return f"{one.epochs:,}{'+' * bool(one.open)} (winner {'kept' if winner in one.finished else 'lost'})"
