"""Checks of the best trial: against the recipes, against luck, and against a network that learned nothing."""

from __future__ import annotations

import math
from statistics import NormalDist

from search.analysis.finalists import refit_outcome
from search.analysis.measures import SHARES, completed, noise, number_of_trials, side, validation_images
from search.journal.comparisons import Comparison
from search.journal.records import TrialRecord, TrialStatus
from search.journal.result import StudyResult
from trainables.check import Check
from trainables.data.description import val_is_taken_from_train

__all__ = ["against_recipes", "collapse", "last_improvement", "resolution"]

FEW = 5  # suggested trials before which nothing is said against a search
ENOUGH = 10
COARSE = 3  # images between the best trials, fewer than which the order is chance


def against_recipes(result: StudyResult) -> Check:
    """Whether the best trial beats the best recipe by more than noise, the best of so many being lucky.

    A refit knows better than the search's single seeds.
    """
    name, metric, ended = "against recipes", result.spec.objective.metric, completed(result)
    if (refit := result.latest("refit")) is not None and (found := _as_refit(result, refit, name)) is not None:
        return found
    recipe = next((record for record in ended if record.recipe is not None), None)
    suggested = [record for record in ended if record.recipe is None]
    if recipe is None:
        why = "no recipe has completed" if result.spec.recipes else "the study has no recipes"
        return Check(name, "unknown", why)
    if not suggested or (not result.finished and len(suggested) < FEW):
        return Check(name, "unknown", f"{number_of_trials(len(suggested), 'suggested')} completed")
    best, gain = suggested[0], side(result) * (suggested[0].value(metric) - recipe.value(metric))
    text = f"trial {best.number} {metric} {best.value(metric):.4f}, recipe {recipe.recipe} {recipe.value(metric):.4f}"
    if gain <= 0:
        step = f"{{search}} --trials {2 * result.spec.budget.trials}   # or use the recipe"
        return Check(name, "warning", f"no suggestion beats a recipe: {text}", step)
    sd = noise(result)
    if sd is None:
        return Check(name, "unknown", f"{text}: the curves are too short to tell the noise")
    luck = NormalDist().inv_cdf(1 - 0.05 / len(suggested)) * sd * math.sqrt(2)
    if gain >= luck:
        return Check(
            name, "ok", f"{text}: better by {gain:.4f}, of which luck explains up to {luck:.4f}; seeds add more"
        )
    text += f": {gain:.4f} better is within the noise, which explains up to {luck:.4f} for the best of {len(suggested)}"
    return Check(name, "warning", text, f"python -m search.refit {{study}} --against {recipe.recipe}{{plugins}}")


def _as_refit(result: StudyResult, refit: Comparison, name: str) -> Check | None:
    """What a refit says; None if it did not compare with a reference, or trials have run since."""
    outcome = refit_outcome(result, refit)
    winner, reference, gain = outcome.winner, refit.reference, outcome.gain
    if winner is None or reference is None or not refit.follows(result.trials):
        return None
    if winner.arm.name in (reference.name, *result.spec.recipes):
        kind = "recipe" if winner.arm.name in result.spec.recipes else "reference"
        text = f"the search did not beat the {kind} {winner.arm.name}"
        more = f"{{search}} --trials {2 * len(result.trials)}   # or use the {kind}"
        return Check(name, "warning", text, more)
    if gain is None or not gain.has_limits:
        return None
    over = f"{winner.arm.name} over {len(winner.values)} {refit.over}"
    text = f"{over}: {gain.signed} against {reference.name}"
    recipes = {reference.name, *result.spec.recipes}
    tied = [one.arm.name for one in outcome.finalists if one.arm.name in recipes and one.verdict.startswith("tie")]
    if gain.low > 0 and not tied:
        return Check(name, "ok", text)
    step = f"python -m search.refit {{study}} --seeds {2 * refit.started.most_runs}{{plugins}}"
    if gain.low <= 0 or reference.name in tied:
        return Check(name, "warning", f"not significantly better: {text}", step)
    return Check(name, "warning", f"{text}, but not significantly better than {' and '.join(tied)}", step)


def last_improvement(result: StudyResult) -> Check:
    """Whether the best was found at the end, so that more trials would pay, or so long ago that they do not."""
    name, metric, sign, best = "last improvement", result.spec.objective.metric, side(result), result.best()
    ended = sorted(record.number for record in result.trials if record.status.ended)
    if best is None or len(ended) < ENOUGH:
        return Check(
            name, "unknown", f"{number_of_trials(len(ended))} ended; at least {ENOUGH}, with a best one, are needed"
        )
    place = ended.index(best.number) + 1
    text = f"the best, trial {best.number}, was number {place} of {len(ended)} that have ended"
    before = [sign * record.value(metric) for record in completed(result) if record.number < best.number]
    gain = sign * best.value(metric) - max(before, default=-math.inf)
    if place > 0.8 * len(ended) and gain > (noise(result) or 0.0) * math.sqrt(2):
        more = math.ceil(1.5 * max(len(ended), result.spec.budget.trials))
        text += f", {gain:.4f} better than those before" if before else ""
        return Check(name, "warning", f"{text}: more trials would pay", f"{{search}} --trials {more}")
    if not result.finished and len(ended) >= 2 * ENOUGH and place <= len(ended) / 4:
        step = "Ctrl-C ends the search, and its files are written; or let it use up its budget"
        return Check(name, "warning", f"{text}: more trials are unlikely to pay", step)
    return Check(name, "ok", text)


def resolution(result: StudyResult) -> Check:
    """Whether the objective can tell the best trials apart: one validation image is 1/n."""
    name, metric, ended = "resolution", result.spec.objective.metric, completed(result)
    if metric not in SHARES:
        return Check(name, "ok", f"{metric} is continuous")
    if len(ended) < 3:
        return Check(name, "unknown", f"{len(ended)} of 3 trials have ended that would tell")
    if (images := validation_images(result)) is None:
        return Check(name, "unknown", "the number of validation images cannot be told from the values")
    values = [record.value(metric) for record in ended]
    ties = sum(abs(value - values[0]) < 0.5 / images for value in values)
    apart = (values[0] - values[2]) * images
    text = f"one of {images:,} validation images is worth {1 / images:.2g}"
    step = _finer_objective(result, images)
    if ties > 1:
        return Check(name, "warning", f"{text}; {ties} trials tie at the top with {values[0]:.4f}", step)
    text += f"; the best 3 trials are {apart:.0f} image{'s' * (round(apart) != 1)} apart"
    if apart < COARSE and images < 1000:
        return Check(name, "warning", text, step)
    return Check(name, "ok", text)


def _finer_objective(result: StudyResult, images: int) -> str:
    """How to tell trials apart: on more validation images than so many, or by a continuous objective."""
    data, loss = result.spec.trial["data"], "--set objective.metric=val_loss --fresh"
    more, fraction = None, 2 * data["val_fraction"]
    if data.get("folds") is None:
        if data["val_samples"] == images:
            more = "data.val_samples=null"
        elif not val_is_taken_from_train(result.images):
            return f"{{search}} {loss}   # a continuous objective; or more images in the source's validation split"
        elif fraction <= 0.4:  # more would take too many from training
            more = f"data.val_fraction={fraction:g}"
    if more is None:
        return f"{{search}} {loss}   # a continuous objective"
    return f"{{search}} --set {more} --fresh   # more validation images; or a continuous objective: {loss}"


def collapse(result: StudyResult) -> Check:
    """Whether networks predict one class for every image, or have a training loss far above their first.

    Journals from before results said so tell the former by the macro averages, without the class counts: for a network
    that takes all images for one of K classes, which a share s of them has, accuracy is s, recall 1/K, precision s/K
    and F1 (2s/(1 + s))/K.
    """
    name, seen = "collapse", [r for r in result.trials if r.history and r.status is not TrialStatus.FAILED]
    known = [record for record in seen if all(metric in record.history[-1].metrics for metric in SHARES)]
    if not known:
        return Check(name, "unknown", "no trial has reported accuracy, precision, recall and F1")
    rising, best = [record for record in known if record.collapsed == "rising loss"], result.best()
    one = [r for r in known if r.collapsed == "one class" or (r.collapsed is None and _predicts_one(r))]
    bad = [*one, *rising]
    if not bad:
        return Check(name, "ok", f"none of {len(known)} networks predicts one class or has a rising loss")
    parts = []
    if one:
        share, verb = one[0].value("val_accuracy"), "predicts" if len(one) == 1 else "predict"
        parts.append(f"{len(one)} of {len(known)} networks {verb} one class (accuracy {share:.4f}, its share)")
    if rising:
        verb, their = ("has", "its") if len(rising) == 1 else ("have", "their")
        parts.append(f"{len(rising)} of {len(known)} {verb} a training loss over twice {their} first")
    text = "; ".join(parts)
    step = "{search} --set regularization.imbalance=class_weights --fresh   # or lower learning rates"
    step += ", or labels that fit the images"
    if not one:
        step = "{search} --set guards.collapsed=stop --fresh   # or lower learning rates, or a warm-up"
    if best in bad or (len(known) >= FEW and len(bad) > len(known) / 2):
        return Check(name, "problem", f"{text}{', the best among them' * (best in bad)}", step)
    if len(bad) > 0.2 * len(known) and len(bad) > 1:
        return Check(name, "warning", text, step)
    few = f"{'a single one' if len(bad) == 1 else 'few'}, as a search tries bad settings too"
    return Check(name, "ok", f"{text}: {few}{'; the best is not among them' * (best is not None)}")


def _predicts_one(record: TrialRecord) -> bool:
    accuracy, precision, recall, f1 = (record.value(metric) for metric in SHARES)
    if not (0 < accuracy < 1 and 0 < recall <= 0.5):
        return False
    classes = 1 / recall
    expected = (accuracy * recall, 2 * accuracy / (1 + accuracy) * recall)
    return (
        abs(classes - round(classes)) < 1e-6 and math.isclose(precision, expected[0]) and math.isclose(f1, expected[1])
    )
