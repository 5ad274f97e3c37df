"""The way from one config to another as changes that can be made, or left out, one by one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from search.study.trial_tree import comparability_rule
from spaces.domains import option_text, same
from trainables.config import ConfigError, flatten, parse_config
from trainables.config.part import every_key

__all__ = ["Change", "apply", "changes", "on_common_ground"]

# Weights are made for an architecture: none of these parts is changed without the weights where both differ.
WEIGHTS = "model.pretrained"
ARCHITECTURE = (
    "model.depth", "model.width", "model.variant", "model.norm", "model.name", "model.small_images", "model.settings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """Settings that change together.

    `values` holds what stands at each config path afterwards: a value, or all below a part whose kind changes. `text`
    says it in words: `optimizer adam -> sgd (lr 0.13, momentum 0.9)`.
    """

    values: Mapping[str, Any]
    text: str

    @property
    def name(self) -> str:
        """The paths that change: `optimizer`, `model.pretrained + model.frozen_stages`."""
        return " + ".join(self.values)


def on_common_ground(baseline: Mapping[str, Any], best: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The baseline with all that the trials of a study share taken from the study's best config: images, epochs, seed.

    Args:
        baseline: a TrialConfig as plain data; may leave out what has a default.
        best: that of a trial of the study.

    Returns:
        The config, and a line for each path at which the baseline had something else; where the seed and the execution
        differ is not said.

    Raises:
        ConfigError: if either is not valid, or the two together are not, as flips on digits.
    """
    old, new = (every_key(parse_config(tree)) for tree in (baseline, best))
    data = {key: value for key, value in old["data"].items() if comparability_rule(f"data.{key}") is None}
    own = {key: value for key, value in old.items() if comparability_rule(key) is None}
    moved = parse_config({**new, **own, "data": {**new["data"], **data}})
    before, after = flatten(old), flatten(every_key(moved))
    told = [
        f"{path} {_text(before.get(path))} -> {_text(after.get(path))}" for path in dict.fromkeys([*before, *after])
        if not same(before.get(path), after.get(path)) and path.split(".")[0] not in ("seed", "execution")
    ]  # fmt: skip
    return moved.model_dump(mode="json"), told


def changes(baseline: Mapping[str, Any], best: Mapping[str, Any]) -> tuple[Change, ...]:
    """What leads from one config to another, in the order of the config's keys.

    Each setting by itself, but a part with another kind (optimizer, schedule, model) as a whole, and settings together
    of which one is not valid without the other: any subset of the changes makes a valid config. What trials of a
    study share is left out.

    Args:
        baseline: a TrialConfig as plain data.
        best: another.

    Raises:
        ConfigError: as `on_common_ground` does.
    """
    old, new = (every_key(parse_config(tree)) for tree in (on_common_ground(baseline, best)[0], best))
    parts = [{path: pair} for path, pair in _differences(old, new)]
    weights = [part for part in parts if WEIGHTS in part]
    if weights:
        bound = [part for part in parts if any(path.startswith(ARCHITECTURE) for path in part)]
        parts = _joined(parts, [*bound, *weights])
    while (broken := _invalid(old, parts)) is not None:
        parts = _joined(parts, [*broken, *_needed(old, broken, parts)])
    return tuple(
        Change(
            {path: value for path, (_, value) in part.items()},
            ", ".join(_described(path, before, after) for path, (before, after) in part.items()),
        )
        for part in parts
    )


def apply(config: Mapping[str, Any], made: Iterable[Change]) -> dict[str, Any]:
    """`config` with these changes made, as a trial's config is recorded."""
    changed = _with(config, {path: value for change in made for path, value in change.values.items()})
    return parse_config(changed).model_dump(mode="json")


_Part = dict[str, tuple[Any, Any]]  # what changes together: old and new value by path


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Old and new value by path; a mapping is one value if its kind or its keys differ."""
    alike = isinstance(old, Mapping) and isinstance(new, Mapping) and set(old) == set(new)
    if alike and old.get("kind") == new.get("kind"):
        for key in old:
            yield from _differences(old[key], new[key], f"{path}.{key}" if path else key)
    elif not same(old, new):
        yield path, (old, new)


def _with(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    tree = copy.deepcopy(dict(config))
    for path, value in values.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[leaf] = copy.deepcopy(value)
    return tree


def _valid(config: Mapping[str, Any], parts: Iterable[_Part]) -> bool:
    try:
        parse_config(_with(config, {path: value for part in parts for path, (_, value) in part.items()}))
    except ConfigError:
        return False
    return True


def _invalid(config: Mapping[str, Any], parts: Sequence[_Part]) -> list[_Part] | None:
    """The fewest parts that cannot be changed without another one; None if there are none.

    One and two of them are tried, and all others without them: no rule of a config spans more than three settings.
    """
    for made in (chosen for size in (1, 2) for chosen in combinations(parts, size)):
        if not _valid(config, made):
            return list(made)
        if not _valid(config, [part for part in parts if part not in made]):
            return list(made)  # the others need them
    return None


def _needed(config: Mapping[str, Any], broken: Sequence[_Part], parts: Sequence[_Part]) -> list[_Part]:
    """The one part with which the broken ones are valid, both ways; where that is none, all of the same sections."""
    others = [part for part in parts if part not in broken]
    for other in others:
        rest = [part for part in others if part is not other]
        if _valid(config, [*broken, other]) and _valid(config, rest):
            return [other]
    sections = {path.split(".")[0] for part in broken for path in part}
    return [part for part in others if any(path.split(".")[0] in sections for path in part)] or others


def _joined(parts: Sequence[_Part], together: Sequence[_Part]) -> list[_Part]:
    """The parts with some of them made one, which stands where the first of them stood."""
    one = {path: pair for part in parts if part in together for path, pair in part.items()}
    first = next(index for index, part in enumerate(parts) if part in together)
    return [one if i == first else part for i, part in enumerate(parts) if i == first or part not in together]


def _described(path: str, old: Any, new: Any) -> str:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping) and "kind" in new):
        return f"{path} {_text(old)} -> {_text(new)}"
    told = [
        f"{key} {_text(value)}" for key, value in new.items()
        if key != "kind" and (not same(value, old[key]) if key in old else value not in (None, False, 0, "none", {}))
    ]  # fmt: skip
    return f"{path} {old.get('kind')} -> {new['kind']}" + (f" ({', '.join(told)})" if told else "")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else option_text(value)
