"""`--smoke`: any study in a few minutes on two cores, with its own model, to check that everything works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from search.study.parse import parse_study
from search.study.settings import HalvingSettings, TPESettings
from search.study.spec import StudySpec
from search.study.trial_tree import compose
from search.study.validation import probes
from spaces import at_most, parse_space, space_tree
from spaces.space import value_at
from trainables.config import Model, merge, parse_config, unflatten
from trainables.config.images import is_small
from trainables.cpu import available_cpus

__all__ = ["shrink"]

TRIALS, SUGGESTED = 8, 3  # trials, of which so many at least are no recipes
EPOCHS = 4
STARTUP_TRIALS = 4
CONCURRENT = 2
BATCH = 16
RESOLUTION = 64
# A core trains some 25 to 30 images a second of a ResNet-110 at 32 pixels, 0.25 GFLOP forward each; an epoch may cost
# about what 118 of them do, and evaluation adds a quarter: with the refit some two minutes on two idle cores, and five
# where half of them is taken.
GFLOP = 30.0
FEWEST, MOST = 64, 1024
SCORED = 40  # at least of the validation images, at most of the training images


def shrink(spec: StudySpec) -> StudySpec:
    """The study with trials, epochs, images, batch, resolution and concurrency capped; the model stays as it is.

    ASHA keeps at least two rungs below the last epoch where there are three epochs or more, so that trials are stopped
    here as in the whole study. Options of the space above a cap are dropped.
    """
    models = _models(spec)
    side = min(max(model.native_side for model in models), RESOLUTION)
    train = _affordable(models, side)
    scored = max(train // 3, SCORED)
    caps: dict[str, Callable[[Any], Any]] = {
        "batch_size": _at_most(BATCH),
        "data.resolution": _at_most(side, null_too=_may_be_large(spec)),
        "data.train_samples": _at_most(train, null_too=True),
    }
    tree = spec.model_dump()
    shared = caps | {
        "data.val_samples": _at_most(scored, null_too=True),
        "data.train_eval_samples": _at_most(SCORED),
    }
    tree["trial"] = _lowered(spec.trial, shared)
    tree["fixed"] = {path: caps[path](value) if path in caps else value for path, value in spec.fixed.items()}
    for recipe in tree["recipes"].values():
        recipe |= {key: _lowered(recipe[key], caps) for key in ("config", "short") if key in recipe}
    tree["space"] = space_tree(at_most(parse_space(spec.space), caps))
    epochs = min(spec.budget.epochs, EPOCHS)
    trials = min(spec.budget.trials, max(TRIALS, len(spec.recipes) + SUGGESTED))
    if not parse_space(tree["space"]).domains():
        trials = min(trials, max(len(spec.recipes), 1))
    tree["budget"] |= {"trials": trials, "epochs": epochs}
    fits = max(1, int(available_cpus() / spec.resources.cpus_per_trial))
    tree["resources"] |= {"concurrent": min(spec.resources.concurrent or CONCURRENT, CONCURRENT, fits)}
    if spec.refit is not None:
        tree["refit"] |= {"top": 1, "seeds": 2, "folds": 1, "test_samples": scored}
    if spec.proxy is not None and spec.proxy.train_samples is not None:
        tree["proxy"] |= {"train_samples": min(spec.proxy.train_samples, train // 2)}
    if isinstance(spec.searcher, TPESettings):
        tree["searcher"]["startup_trials"] = min(spec.searcher.startup_trials, STARTUP_TRIALS)
    if isinstance(spec.scheduler, HalvingSettings):
        tree["scheduler"] = _shorter(spec.scheduler, epochs)
    return parse_study(tree)


def _affordable(models: list[Model], side: int) -> int:
    """How many images may be trained on; few, if a network does not take any of this size to be measured by."""
    from trainables.models.cost import forward_gflops  # loads torch

    costs = [cost for model in models if (cost := forward_gflops(model, side)) is not None]
    if len(costs) < len(models):
        return FEWEST
    return round(min(max(GFLOP / max(*costs, GFLOP / MOST), FEWEST), MOST))


def _at_most(cap: int, null_too: bool = False) -> Callable[[Any], Any]:
    def lower(value: Any) -> Any:
        if value is None:
            return cap if null_too else None
        return min(value, cap)

    return lower


def _lowered(config: Mapping[str, Any], caps: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    lowered = dict(config)
    for path, cap in caps.items():
        try:
            value = value_at(config, path)
        except LookupError:
            continue
        lowered = merge(lowered, unflatten({path: cap(value)}))
    return lowered


def _shorter(scheduler: HalvingSettings, epochs: int) -> dict[str, Any]:
    if epochs == 1:
        return {"kind": "none"}
    factor = max(2, min(scheduler.reduction_factor, epochs - 1))
    return {**scheduler.model_dump(), "grace_period": 1, "reduction_factor": factor}


def _may_be_large(spec: StudySpec) -> bool:
    source = spec.trial["data"]["source"]
    return source is None or not is_small(source)


def _models(spec: StudySpec) -> list[Model]:
    """Every model that a recipe or a draw may name."""
    drawn = (point.tree for _, point in probes(spec.parsed_space))
    trees = (compose(spec.trial, tree, spec.fixed) for tree in ({}, *map(spec.recipe_config, spec.recipes), *drawn))
    return list(dict.fromkeys(parse_config({"model": tree["model"]}).model for tree in trees))
