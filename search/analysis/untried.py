"""What a study has never tried: options and parts of ranges without a trial, and settings that it fixes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from search.analysis.measures import below, position
from search.journal.records import TrialStatus
from search.journal.result import StudyResult
from spaces import Choice, Domain, Float, Int, Parameter, path_of
from spaces.domains import domain_text, option_text, same
from spaces.space import value_at

__all__ = ["untried"]

Config: TypeAlias = Mapping[str, Any]

# What recipes of practice search, and what it is.
PRACTICE = {
    "optimizer.weight_decay": "weight decay",
    "optimizer.nesterov": "Nesterov's momentum",
    "schedule.warmup": "a warm-up of the learning rate",
    "augment.strength": "the strength of the augmentation",
    "augment.policy": "RandAugment or TrivialAugment",
    "augment.cutout": "cutout",
    "augment.mixup": "mixup",
    "augment.cutmix": "CutMix",
    "regularization.label_smoothing": "label smoothing",
    "regularization.ema_decay": "an average of the weights",
    "regularization.imbalance": "class weights or balanced sampling",
}
MOST_VALUES = 6  # of a range in steps that are told one by one; others by thirds
THIRDS = ("lower", "middle", "upper")


def untried(result: StudyResult) -> list[str]:
    """A line for each option and each third of a range in which no trial trained, and for what the study fixes.

    Trials that failed or have not reported an epoch do not count.
    """
    configs = [r.config for r in result.trials if r.history and r.status is not TrialStatus.FAILED]
    return [*_unvisited(result.spec.parsed_space.parameters(), configs), *_fixed(result, configs)]


def _unvisited(parameters: Sequence[Parameter], configs: Sequence[Config]) -> Iterator[str]:
    for parameter in parameters:
        key, domain = parameter.key, parameter.domain
        here = [c for c in configs if all(option in _values(c, path_of(choice)) for choice, option in parameter.when)]
        if not here and parameter.when:
            continue  # that no trial had the option is told
        seen = [value for config in here for value in _values(config, path_of(key)) if domain.contains(value)]
        options = _options(domain)
        if options:
            missed = [option for option in options if not any(same(option, domain.canonical(v)) for v in seen)]
            if missed:
                yield f"{below(key)}: no trial had {', '.join(map(option_text, missed))}"
        elif isinstance(domain, Float | Int):
            visited = {min(int(3 * position(domain, value)), 2) for value in seen}
            parts = [_third(domain, third) for third in range(3) if third not in visited]
            if parts:
                yield f"{below(key)}: no trial in {' and '.join(parts)} of {domain_text(domain)}"


def _options(domain: Domain) -> Sequence[Any]:
    """All values, if they are few."""
    if isinstance(domain, Choice):
        return domain.options
    steps = 0.0 if domain.step is None else (domain.high - domain.low) / domain.step
    if not 0 < round(steps) < MOST_VALUES:
        return ()
    return [domain.canonical(domain.low + place * (domain.step or 1)) for place in range(round(steps) + 1)]


def _third(domain: Float | Int, third: int) -> str:
    low, high = float(domain.low), float(domain.high)
    ends = [
        math.exp(math.log(low) + part / 3 * math.log(high / low)) if domain.log else low + part / 3 * (high - low)
        for part in (third, third + 1)
    ]
    return f"the {THIRDS[third]} third ({ends[0]:.3g} to {ends[1]:.3g})"


def _fixed(result: StudyResult, configs: Sequence[Config]) -> Iterator[str]:
    """What trials could have varied in, and none did; not where only other kinds of a part have it."""
    searched = {path_of(key) for key in result.spec.parsed_space.domains()}
    for path, what in PRACTICE.items():
        values = {option_text(value) for config in configs or [result.spec.trial] for value in _values(config, path)}
        if path not in searched and len(values) == 1:
            yield f"{path} ({what}): fixed at {values.pop()}"


def _values(config: Config, path: str) -> list[Any]:
    """What stands there, none if the config has no such path."""
    try:
        return [value_at(config, path)]
    except LookupError:
        return []
