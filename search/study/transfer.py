"""What every study tries first when its network begins with pretrained weights: fine-tuning with care, a linear probe.

A study's own recipes are mostly made for networks that begin with none: rates that suit those destroy what the weights
have learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from search.study.settings import Recipe
from search.study.spec import StudySpec
from search.study.trial_tree import compose, config_problems
from search.study.validation import probes
from spaces import space_rows
from spaces.domains import same
from trainables.config import Model, flatten, parse_config

__all__ = [
    "FINE_TUNE", "LINEAR_PROBE", "as_begun", "transfer_notes", "with_transfer_recipes", "without_transfer_recipes",
]  # fmt: skip

FINE_TUNE, LINEAR_PROBE = "fine_tune", "linear_probe"

# Rates of the backbone above which fine-tuning commonly loses what the weights have learned.
_KEEPING = {"sgd": 0.03, "adam": 1e-3, "adamw": 1e-3, "nadamw": 1e-3, "rmsprop": 1e-3}
_SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
# The study's own crops and flips alone: what is stronger needs more epochs than fine-tuning takes.
_LIGHT = {"strength": 1.0, "policy": "none", "cutout": 0.0, "mixup": 0.0, "cutmix": 0.0}
# Fixed to another value by the user, these make something else of a recipe.
_ESSENTIAL = {
    FINE_TUNE: ("optimizer.kind", "optimizer.lr", "optimizer.backbone_lr_ratio"),
    LINEAR_PROBE: ("model.frozen_stages", "optimizer.kind", "optimizer.lr"),
}


def with_transfer_recipes(spec: StudySpec) -> StudySpec:
    """The study with the recipes for pretrained weights among its first, if it has weights and searches anything.

    A recipe that the study names itself stays, and so does the order of its own: the probe follows its `fine_tune`.
    Without weights the study is returned as it came.
    """
    new = {name: recipe for name, recipe in _tried(spec).items() if name not in spec.recipes}
    if not new:
        return spec
    if FINE_TUNE not in spec.recipes:
        return spec.model_copy(update={"recipes": {**new, **spec.recipes}})
    recipes: dict[str, Recipe] = {}
    for name, recipe in spec.recipes.items():
        recipes |= {name: recipe, **(new if name == FINE_TUNE else {})}
    return spec.model_copy(update={"recipes": recipes})


def without_transfer_recipes(spec: StudySpec) -> StudySpec:
    """The study as it was before `with_transfer_recipes`, so that other weights, or none, can be laid over it."""
    return _only(spec, spec.recipes.keys() - _added(spec))


def as_begun(spec: StudySpec, stored: StudySpec) -> StudySpec:
    """`spec` to continue `stored`: without these recipes if that was begun by a version that had none."""
    return _only(spec, spec.recipes.keys() - (_added(spec) - stored.recipes.keys()))


def _added(spec: StudySpec) -> set[str]:
    return {name for name, recipe in _tried(spec).items() if spec.recipes.get(name) == recipe}


def _only(spec: StudySpec, names: Set[str]) -> StudySpec:
    if names == spec.recipes.keys():
        return spec
    return spec.model_copy(update={"recipes": {name: r for name, r in spec.recipes.items() if name in names}})


def transfer_notes(spec: StudySpec) -> Iterator[str]:
    """What whoever gave weights has to know: recipes that cannot be tried, and rates that destroy the weights."""
    for name, (_, why_not) in _built(spec).items():
        if why_not is not None and name not in spec.recipes:
            yield f"recipe {name} is not tried: {why_not}"
    lowest = _lowest_rate(spec) if _weights(spec) is not None else None
    if lowest is not None and lowest[1] > _KEEPING[lowest[0]]:
        yield (
            f"warning: the lowest rate of pretrained layers in the space, {lowest[1]:g} with {lowest[0]}, may destroy "
            f"what they have learned: let optimizer.lr or optimizer.backbone_lr_ratio reach {_KEEPING[lowest[0]]:g} "
            "and below"
        )


def _tried(spec: StudySpec) -> dict[str, Recipe]:
    return {name: recipe for name, (recipe, why_not) in _built(spec).items() if why_not is None}


def _built(spec: StudySpec) -> dict[str, tuple[Recipe, str | None]]:
    """The recipes for this study's weights by name, and why one cannot be tried; none without weights or a space."""
    weights = _weights(spec)
    if weights is None or not spec.parsed_space.domains():
        return {}
    model: Model = parse_config({"model": compose(spec.trial, {"model": weights}, spec.fixed)["model"]}).model
    first = next((recipe for name, recipe in spec.recipes.items() if name not in (FINE_TUNE, LINEAR_PROBE)), None)
    batch = {} if first is None or "batch_size" not in first.config else {"batch_size": first.config["batch_size"]}
    stages = _stage_count(model)
    recipes = {FINE_TUNE: _fine_tune(weights, stages, batch), LINEAR_PROBE: _linear_probe(weights, stages, batch)}
    found = {name: (recipe, _why_not(name, recipe, spec)) for name, recipe in recipes.items()}
    if not stages:
        rule = f"the {model.label} does not say what its stages are, of which all would be frozen"
        found[LINEAR_PROBE] = recipes[LINEAR_PROBE], rule
    return found


def _weights(spec: StudySpec) -> Mapping[str, Any] | None:
    """What a recipe must set below `model` so that it has weights: nothing if each trial has; None if none can."""
    if compose(spec.trial, {}, spec.fixed)["model"].get("pretrained", "none") != "none":
        return {}
    if all(path != "model.pretrained" for path, _, _ in space_rows(spec.parsed_space)):
        return None
    for _, point in probes(spec.parsed_space):
        model = compose(spec.trial, point.tree, spec.fixed)["model"]
        if model.get("pretrained", "none") != "none":
            found: Mapping[str, Any] = point.tree["model"]
            return found
    return None


def _fine_tune(weights: Mapping[str, Any], stages: int, batch: Mapping[str, Any]) -> Recipe:
    ratio = {"backbone_lr_ratio": 0.1} if stages else {}  # a network without stages may have no head either
    return Recipe(
        description="Everything trained, the pretrained layers at a tenth of the new head's rate, one cosine after a "
        "short warm-up, no augmentation but the study's own crops and flips",
        source="rates within those of Kornblith et al. 2019, arXiv:1805.08974; lower layers slower as in Howard and "
        "Ruder 2018, arXiv:1801.06146; crops and flips alone as in Kolesnikov et al. 2020, arXiv:1912.11370",
        config={
            "model": {**weights, "frozen_stages": 0},
            "optimizer": {**_SGD, "lr": 0.1 if ratio else 0.01, **ratio},
            "schedule": {"kind": "cosine", "warmup": 0.1},
            "augment": _LIGHT,
            **batch,
        },
    )


def _linear_probe(weights: Mapping[str, Any], stages: int, batch: Mapping[str, Any]) -> Recipe:
    return Recipe(
        description="The new head alone is trained, on the features of the frozen network",
        source="Kornblith et al. 2019, arXiv:1805.08974; what fine-tuning may lose is measured against it "
        "as in Kumar et al. 2022, arXiv:2202.10054",
        config={
            "model": {**weights, "frozen_stages": stages},
            "optimizer": {**_SGD, "lr": 0.1},
            "schedule": {"kind": "cosine", "warmup": 0.0},
            "augment": _LIGHT,
            **batch,
        },
    )


def _stage_count(model: Model) -> int:
    if model.stage_count is not None:
        return model.stage_count
    from trainables.models.cost import stage_count  # loads torch

    return stage_count(model.model_copy(update={"pretrained": "none", "frozen_stages": 0}))


def _why_not(name: str, recipe: Recipe, spec: StudySpec) -> str | None:
    """Why a recipe cannot be tried; None if it can."""
    wanted = flatten(recipe.config)
    for path in _ESSENTIAL[name]:
        if path in spec.fixed and path in wanted and not same(spec.fixed[path], wanted[path]):
            return f"it needs {path} {wanted[path]}, and that is set to {spec.fixed[path]}"
    problems = config_problems(compose(spec.trial, recipe.config, spec.fixed))
    return str(problems[0]) if problems else None


def _lowest_rate(spec: StudySpec) -> tuple[str, float] | None:
    """The optimizer and the lowest learning rate of pretrained layers that a draw can have; None if none is known."""
    found = []
    for _, point in probes(spec.parsed_space):
        optimizer = compose(spec.trial, point.tree, spec.fixed)["optimizer"]
        rate, ratio = optimizer.get("lr"), optimizer.get("backbone_lr_ratio", 1.0)
        if rate is not None and optimizer["kind"] in _KEEPING:
            found.append((rate * ratio / _KEEPING[optimizer["kind"]], optimizer["kind"], rate * ratio))
    return min(found)[1:] if found else None
