"""How a study's defaults, a point or recipe, and its fixed values become one trial's config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from spaces import Choice, Entry, Fixed, Space, rewrite
from trainables.config import ConfigError, Problem, TrialConfig, merge, parse_config, unflatten
from trainables.config.hints import in_our_words
from trainables.config.images import canonical_source
from trainables.config.keys import location_of, types_at
from trainables.config.network import is_published
from trainables.config.paths import absolute_path

__all__ = [
    "absolute", "absolute_recipe", "absolute_space", "compose", "config_problems", "full_trial", "has_key",
    "study_level_rule", "plain_trial", "comparability_rule",
]  # fmt: skip

# Stands in for the images of a study that has none of its own, so that everything else can be checked.
NO_SOURCE = "imagefolder:--data"

OWN_KEYS = ("epochs", "seed")
COMPARABLE_DATA = ("data.resolution", "data.normalize", "data.train_samples")


def study_level_rule(path: str) -> str | None:
    """Why neither trial defaults, space nor recipes may set `path`; None if they may."""
    if path.split(".")[0] == "epochs":
        return "is the study's own: set budget.epochs"
    if path.split(".")[0] == "seed":
        return "is the study's own: set seed at the top level"
    return None


def comparability_rule(path: str) -> str | None:
    """Why `path` must be the same for all trials; None if trials may differ in it."""
    top = path.split(".")[0]
    if top == "execution":
        return "must be the same for every trial: it changes the last digits; set it under trial"
    if path == "data" or (top == "data" and not any(path == p or path.startswith(f"{p}.") for p in COMPARABLE_DATA)):
        return "must be the same for every trial, or their scores could not be compared; set it under trial"
    return study_level_rule(path)


def full_trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The trial's defaults with TrialConfig's own filled in, as plain data."""
    return merge(TrialConfig().model_dump(mode="json", exclude=set(OWN_KEYS)), trial)


def plain_trial(full: Mapping[str, Any]) -> dict[str, Any]:
    """A valid `full_trial` with the keys of its kinds filled in too, in the form that YAML gives back."""
    source = full["data"]["source"]
    known = parse_config(_with_source(full)).model_dump(mode="json", exclude=set(OWN_KEYS))
    known["data"]["source"] = source
    return known


def _with_source(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    data = tree.get("data")
    if isinstance(data, Mapping) and data.get("source", "") is None:
        return {**tree, "data": {**data, "source": NO_SOURCE}}
    return tree


def config_problems(tree: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a trial's config; that its images are still to be named is not."""
    try:
        parse_config(_with_source(tree))
    except ConfigError as error:
        return list(error.problems)
    return []


def has_key(tree: Mapping[str, Any], path: str) -> bool:
    """Whether TrialConfig knows `path`, given the kinds of model, optimizer and schedule in `tree`."""
    return location_of(TrialConfig, tree, path)[1] == len(path.split("."))


def _with_fixed(tree: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with the fixed values whose keys exist there: a momentum reaches sgd and passes adam by."""
    kinds = {path: value for path, value in fixed.items() if path.endswith(".kind")}
    merged = merge(tree, unflatten(kinds))
    for path, value in fixed.items():
        if path not in kinds and has_key(merged, path):
            merged = merge(merged, unflatten({path: value}))
    return merged


def compose(trial: Mapping[str, Any], overrides: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The trial's defaults with `overrides` laid over them and `fixed` over both."""
    return _with_fixed(merge(_with_fixed(trial, fixed), overrides), fixed)


def absolute(tree: Any, path: str = "") -> Any:
    """A config tree with relative paths of images and weights made absolute, as seen from the current directory, and
    other languages' words for none as this one's.

    Trials run in folders of their own, and a study must find its images when it is resumed from another one.
    """
    if isinstance(tree, Mapping):
        return {key: absolute(value, f"{path}.{key}" if path else str(key)) for key, value in tree.items()}
    return _absolute_value(tree, path)


def absolute_recipe(recipe: Any) -> Any:
    """`absolute` for a recipe, as written in a study."""
    if not isinstance(recipe, Mapping):
        return recipe
    return {**recipe, **{key: absolute(recipe[key]) for key in ("config", "short") if key in recipe}}


def absolute_space(space: Space) -> Space:
    """`absolute` for the values that a space may set."""

    def change(entry: Entry) -> Iterator[Entry]:
        domain = entry.domain
        if isinstance(domain, Choice):
            options = tuple(_absolute_value(option, entry.path) for option in domain.options)
            try:
                yield replace(entry, domain=Choice(options, domain.branches))
            except ConfigError as error:  # two options have become one
                raise ConfigError(Problem(f"{entry.path}.choice", p.value, p.rule) for p in error.problems) from None
        elif isinstance(domain, Fixed):
            yield replace(entry, domain=Fixed(_absolute_value(domain.value, entry.path)))
        else:
            yield entry

    return rewrite(space, change)


def _absolute_value(value: Any, path: str) -> Any:
    value = in_our_words(value, types_at(TrialConfig, path))
    if not isinstance(value, str) or not value:
        return value
    if path == "data.source":
        return canonical_source(value)
    if path == "data.exclude":
        return absolute_path(value)
    if path == "model.pretrained" and value != "none" and not is_published(value):
        return absolute_path(value)
    return value
