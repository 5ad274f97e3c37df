"""`--warm-start`: what a study takes of earlier ones before its searcher's first suggestion.

A searcher ranks trials by the objective, and that of another study is not always on the same scale. It is told of
trials on the same data with as many epochs. Of others the best are tried first, since good settings are often good
elsewhere, too, while their numbers mislead: docs/search_quality.md has what both are worth.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from search.journal.events import PriorTrial, WarmStarted
from search.journal.log import read
from search.journal.records import TrialRecord, TrialStatus, ranked
from search.journal.result import StudyResult, collect
from search.journal.state import StudyState
from search.journal.study_folder import find_study, read_study
from search.study.settings import GridSettings, RandomSettings
from search.study.spec import StudySpec
from spaces import Scalar, walk
from spaces.domains import Domain, domain_text, option_text
from spaces.space import path_of, value_at
from trainables.config import ConfigError, Problem, TrialConfig, flatten, parse_config
from trainables.config.images import without_path

__all__ = ["earlier_studies", "warm_started"]

OPTION = "--warm-start"
APART = ("data", "execution", "epochs", "seed")  # what a trial's place in the space does not depend on
MOST_REASONS = 5  # in a line
BEST = 3  # of each study, where its objective is on another scale


class _LeftOut(Exception):  # noqa: N818 (no error: a reason)
    """Why nothing is taken of a trial."""


def earlier_studies(
    names: str | Path | Sequence[str | Path], spec: StudySpec, out: Path, resumed: bool = False
) -> list[StudyResult]:
    """The studies that a new one is warm-started with; none for one that is continued, whose journal has their trials.

    Args:
        names: of the studies below `out`, or the paths of their folders.
        spec: the study that is about to be searched.
        out: the results folder.
        resumed: whether the study is there already, below `out`.

    Raises:
        ConfigError: if there is no such study, its journal is damaged, the searcher would make no use of it, or a study
            is continued that was begun otherwise.
    """
    names = [names] if isinstance(names, str | Path) else names
    past = StudyState.of(read(out / spec.study / "journal") if resumed else ())
    begun = past.warm_start.studies if past.warm_start else ()
    given = {Path(name).expanduser().absolute().name for name in names}
    if names and (past.trials or begun) and given != set(begun):
        rule = (
            f"must be given when a study is begun, and {spec.study} was begun with {', '.join(begun) or 'none'}: "
            "leave it out to continue, or start another with --fresh"
        )
        raise ConfigError.single(OPTION, ", ".join(map(str, names)), rule)
    if not names or past.trials or begun:
        return []
    if isinstance(spec.searcher, GridSettings | RandomSettings):
        rule = f"must be left out with searcher {spec.searcher.kind}, which learns nothing from trials"
        raise ConfigError.single(OPTION, ", ".join(map(str, names)), rule)
    try:
        folders = dict.fromkeys(find_study(str(name), out) for name in names)
    except ConfigError as error:  # which takes the name for the verb's own argument
        raise ConfigError(Problem(OPTION, p.value, p.rule) for p in error.problems) from None
    return [collect(*read_study(folder), folder) for folder in folders]


def warm_started(spec: StudySpec, studies: Sequence[StudyResult], fingerprint: str | None) -> WarmStarted:
    """What a study takes of the trials of others: told to the searcher, in their order, or tried first, best first.

    Args:
        spec: the study.
        studies: the others.
        fingerprint: of the study's images.

    Raises:
        ConfigError: if that is nothing.
    """
    known = [spec.locate(spec.recipe_config(name)) for name in spec.recipes]
    taken: list[_Taken] = []
    for study in studies:
        taken.append(_taken(spec, study, study.fingerprint == fingerprint, known))
        known += [trial.values for trial in taken[-1].first]
    trials = tuple(trial for one in taken for trial in one.told)
    first = tuple(trial for one in taken for trial in one.first)
    names, lines = tuple(map(_name, studies)), tuple(line for one in taken for line in one.lines)
    if not trials and not first:
        rule = f"must name studies with completed trials inside this space, which no recipe repeats: {'; '.join(lines)}"
        raise ConfigError.single(OPTION, ", ".join(names), rule)
    metric = spec.objective.metric
    return WarmStarted(metric=metric, studies=names, trials=trials, first=first, lines=lines, time=time.time())


class _Taken(NamedTuple):
    """What is taken of one study, and what is said about it."""

    told: list[PriorTrial]
    first: list[PriorTrial]
    lines: list[str]


def _name(study: StudyResult) -> str:
    return study.folder.name if study.folder else study.spec.study


def _taken(
    spec: StudySpec, study: StudyResult, same_images: bool, known: Collection[Mapping[str, Scalar] | None]
) -> _Taken:
    """What is taken of a study; points that are `known` are tried anyway."""
    name, told, others = _name(study), list[PriorTrial](), dict[int, PriorTrial]()
    left_out, unlike = Counter[str](), Counter[str]()
    for record in study.trials:
        try:
            config = parse_config(record.config)
            prior = _prior(spec, name, record, config.epochs, _located(spec, config))
        except ConfigError as error:
            left_out[str(error.problems[0])] += 1
        except _LeftOut as reason:
            left_out[str(reason)] += 1
        else:
            if differs := _differences(spec, config, same_images):
                unlike.update(differs)
                others[record.number] = prior
            else:
                told.append(prior)
    inside = len(told) + len(others)
    lines = [_inside_line(name, inside, len(study.trials), left_out)]
    in_order = [record.number for record in ranked(study.trials, spec.objective.metric, spec.objective.mode)]
    first: list[PriorTrial] = []
    for prior in (others[number] for number in in_order if number in others):
        tried = [*known, *(trial.values for trial in first)]
        if prior.status is TrialStatus.COMPLETED and prior.values not in tried and len(first) < BEST:
            first.append(prior)
    if others:
        named = ", ".join(str(prior.trial) for prior in first) or "none, as they did not complete or are recipes"
        lines.append(f"warm start: {name} had {_counted(unlike, inside)}: the best of such trials come first: {named}")
    return _Taken(told, first, lines)


def _inside_line(name: str, inside: int, of: int, left_out: Counter[str]) -> str:
    line = f"warm start: {inside} of {of} trials of {name} are inside this space"
    return f"{line}; {left_out.total()} left out: {_counted(left_out)}" if left_out else line


def _counted(reasons: Counter[str], all_of: int | None = None) -> str:
    """Reasons, the most frequent first, and how often each; not of those that hold for `all_of` them."""
    shown = [
        reason if count == all_of else f"{reason} ({count})" for reason, count in reasons.most_common(MOST_REASONS)
    ]
    more = len(reasons) - len(shown)
    return ", ".join(shown) + (f" and {more} more reasons" if more else "")


def _located(spec: StudySpec, config: TrialConfig) -> dict[str, Scalar]:
    """The point of the study's space that makes this trial, whatever its data, execution, epochs and seed.

    Raises:
        _LeftOut: if none does.
    """
    theirs = config.model_dump(mode="json")

    def read_value(key: str, domain: Domain) -> Scalar:
        path = path_of(key)
        value: Any = value_at(theirs, path)
        if not domain.contains(value):
            raise _LeftOut(f"{path} outside {domain_text(domain)}")
        return value  # type: ignore[no-any-return]

    point = walk(spec.parsed_space, read_value)
    ours = spec.trial_config(point.tree).model_dump(mode="json")
    here, there = (flatten({key: tree[key] for key in tree if key not in APART}) for tree in (ours, theirs))
    for path in {**here, **there}:
        if path not in here or path not in there or here[path] != there[path]:
            now, then = (option_text(tree[path]) if path in tree else "not set" for tree in (here, there))
            raise _LeftOut(f"{path} {then}, here {now}")
    return point.values


def _differences(spec: StudySpec, config: TrialConfig, same_images: bool) -> list[str]:
    """In what a trial's objective is not on this study's scale."""
    searched = [path_of(key) for key in spec.parsed_space.domains()]
    ours, theirs = (_data(found, searched) for found in (spec.trial_config({}), config))
    differs = [] if same_images and ours == theirs else ["other data"]
    if config.epochs != spec.budget.epochs:
        differs.append(f"{config.epochs} epochs instead of {spec.budget.epochs}")
    return differs


def _data(config: TrialConfig, searched: Sequence[str]) -> dict[str, Any]:
    """What a trial's images are, but for where they lie and what is searched of it."""
    data = config.data.model_dump(mode="json")
    data["source"] = without_path(data["source"])
    data.pop("exclude", None)
    return {path: value for path, value in flatten({"data": data}).items() if path not in searched}


def _prior(spec: StudySpec, study: str, record: TrialRecord, epochs: int, values: Mapping[str, Scalar]) -> PriorTrial:
    """A trial as it ended.

    Raises:
        _LeftOut: if it has shown nothing.
    """
    metric, status = spec.objective.metric, record.status
    if status is TrialStatus.FAILED:
        raise _LeftOut("failed")
    last = record.best_epoch or epochs
    seen = record.seen(metric).items()
    history = {epoch: value for epoch, value in seen if epoch <= last and not math.isnan(value)}
    if status is not TrialStatus.DIVERGED:
        if not history:
            raise _LeftOut(f"no {metric}" if record.history else "no epoch trained")
        if status is not TrialStatus.COMPLETED:  # one that still runs is known by what it has reached
            status = TrialStatus.STOPPED
    return PriorTrial(
        study=study, trial=record.number, values=dict(values), config=dict(record.config), status=status,
        history=history,
    )  # fmt: skip
