"""What a refit or an explanation starts from: a recipe of the study, or a config of the user's own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from search.journal.events import Arm, Role
from search.journal.records import TrialRecord
from search.study.proxy import carried_over
from search.study.spec import StudySpec
from search.study.trial_tree import comparability_rule
from trainables.config import ConfigError, flatten, load_config, load_yaml, parse_config

__all__ = ["arm_of", "carried_arms", "reference_arm"]


def arm_of(record: TrialRecord, role: Role) -> Arm:
    """A trial as an arm of a comparison."""
    name = record.recipe or f"trial-{record.number}"
    return Arm(name=name, role=role, config=dict(record.config), trial=record.number)


def carried_arms(spec: StudySpec, record: TrialRecord, role: Role, both: bool) -> list[Arm]:
    """A trial of a search with a proxy as an arm of the study's own network, its rate by `search.study.proxy`'s law.

    With `both` there is another arm, with the rate as it was found, where the law changes it. The law's comes first:
    there are rates that train the small network and not the deep one (docs/search_quality.md). No arm has a trial: what
    its settings reached in the search was another network's.
    """
    if spec.proxy is None:
        return [arm_of(record, role)]
    name, own = arm_of(record, role).name, spec.own.trial_config({})
    arms: dict[float, Arm] = {}
    for scaled in (True, False) if both else (True,):
        config, change = carried_over(record.config, spec.proxy, own, scaled)
        rate = config["optimizer"]["lr"]
        known_as = name if rate == record.config["optimizer"]["lr"] else f"{name}-lr-{rate:.3g}"
        arms.setdefault(rate, Arm(name=known_as, role=role, config=config, change=change))
    return list(arms.values())


def reference_arm(
    spec: StudySpec, trials: Iterable[TrialRecord], given: str | None, option: str, role: Role
) -> tuple[Arm | None, str | None]:
    """The arm to compare with, and a line for the user about what of it is the study's.

    With a proxy it has the study's own network and images, as the refit trains them.

    Args:
        spec: the study.
        trials: its trials so far.
        given: a recipe's name, or the path of a YAML; None: the study's first recipe, the published one.
        option: how the user gave it.
        role: in the comparison.

    Raises:
        ConfigError: if there is no such recipe, or the file holds no valid config.
    """
    if given is not None and (given.endswith((".yaml", ".yml")) or "/" in given):
        return _from_file(spec, Path(given).expanduser(), role)
    name = given if given is not None else next(iter(spec.recipes), None)
    if name is None:
        return None, None
    if name not in spec.recipes:
        close = difflib.get_close_matches(name, spec.recipes, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        there = f"there are {', '.join(spec.recipes)}" if spec.recipes else "it has none"
        rule = f"must be a recipe of {spec.study} ({hint}{there}) or the path of a YAML file"
        raise ConfigError.single(option, name, rule)
    for record in trials if spec.proxy is None else ():
        if record.recipe == name:
            return arm_of(record, role), None
    config = spec.own.trial_config(spec.recipe_config(name)).model_dump(mode="json")
    return Arm(name=name, role=role, config=config), None


def _from_file(spec: StudySpec, path: Path, role: Role) -> tuple[Arm, str | None]:
    """A config of the user's own, made comparable: images, epochs and execution are the study's."""
    own, study = load_config(path).model_dump(mode="json"), spec.own.trial_config({}).model_dump(mode="json")
    config = {**own, **{key: study[key] for key in ("data", "epochs", "seed", "execution")}}
    tree = load_yaml(path)
    written: dict[str, Any] = flatten(tree.get("config", tree))
    theirs = flatten(study)
    changed = [
        f"{key} {theirs[key]} instead of {value}"
        for key, value in written.items()
        if (comparability_rule(key) or key.startswith("data.")) and key in theirs and theirs[key] != value
        and key.split(".")[0] not in ("seed", "execution")
    ]  # fmt: skip
    taken = path.stem in spec.recipes or re.fullmatch(r"trial-\d+|best", path.stem)
    name = path.name if taken else path.stem
    arm = Arm(name=name, role=role, config=parse_config(config).model_dump(mode="json"))
    return arm, f"{path.name}: {', '.join(changed)}, as the study has it" if changed else None
