"""Ranges: where one ends too early, and in which part of it trials go wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.analysis.measures import below, position, rounded
from search.journal.records import TrialRecord
from spaces import Choice, Domain, Float, Int, conditions_of, path_of
from spaces.domains import option_text
from trainables.config import ConfigError, merge, parse_config, unflatten

__all__ = ["Region", "concentration", "wider", "yaml_line"]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of one setting's range in which trials go wrong more often than elsewhere.

    `text` says which part. `inside` and `outside` count (bad, all) trials. `rest` is the range without it, None where
    that is none.
    """

    key: str
    text: str
    inside: tuple[int, int]
    outside: tuple[int, int]
    rest: Domain | None


def yaml_line(key: str, domain: Domain) -> str:
    """A range as a study's YAML has it: `lr: {float: [0.01, 3.0], log: true}`, and where it stands."""
    *parents, name = path_of(key).split(".")
    if isinstance(domain, Choice):
        leaf = f"{{choice: [{', '.join(map(option_text, domain.options))}]}}"
    else:
        kind = "int" if isinstance(domain, Int) else "float"
        low, high = (bound if kind == "int" else float(f"{bound:.6g}") for bound in (domain.low, domain.high))
        step = "" if domain.step in (None, 1) else f", step: {domain.step:g}"
        leaf = f"{{{kind}: [{low}, {high}]{', log: true' * domain.log}{step}}}"
    branch = "".join(f", {option}" for option in conditions_of(key))
    return f"{name}: {leaf} under space{''.join('.' + parent for parent in parents)}{branch}"


def wider(domain: Float | Int, key: str, config: dict[str, Any], upward: bool) -> Domain | None:
    """The range extended by a third on one side, or less; None if a trial cannot have values beyond it.

    Args:
        domain: the range.
        key: the setting's qualified key.
        config: of a trial in which the setting counts.
        upward: which side.
    """
    for share in (1 / 3, 0.1):
        bound = _beyond(domain, upward, share)
        if bound is None:
            continue
        try:
            parse_config(merge(config, unflatten({path_of(key): bound})))
        except ConfigError:
            continue
        return _cut(domain, **{"high" if upward else "low": bound})
    return None


def _beyond(domain: Float | Int, upward: bool, share: float) -> float | int | None:
    low, high, sign = float(domain.low), float(domain.high), 1 if upward else -1
    end = high if upward else low
    if domain.step is not None and not (isinstance(domain, Int) and domain.log):
        steps = max(round((high - low) / domain.step * share), 1)
        new = end + sign * steps * domain.step
    elif domain.log:
        new = rounded(end * (high / low) ** (sign * share))
    else:
        new = rounded(end + sign * (high - low) * share)
    if not (new > high if upward else new < low) or (domain.log and new <= 0):
        return None
    return round(new) if isinstance(domain, Int) else new


def concentration(domains: dict[str, Domain], trials: Sequence[TrialRecord], bad: Collection[int]) -> Region | None:
    """Where the trials numbered `bad` are concentrated: the end of a range, or the option, that tells them best.

    None unless so many would lie there by chance in one search of 20 (Fisher's exact test, corrected for everything
    that was looked at).
    """
    best, chance, tried = None, 1.0, 0
    for key, domain in domains.items():
        here = [record for record in trials if key in (record.values or {})]
        if not len(here) >= 2 or not 0 < sum(record.number in bad for record in here) < len(here):
            continue
        for region in _regions(key, domain, here, bad):
            tried += 1
            found = _fisher(*region.inside, *region.outside)
            if found < chance:
                best, chance = region, found
    return best if chance * tried <= 0.05 else None


def _regions(key: str, domain: Domain, trials: Sequence[TrialRecord], bad: Collection[int]) -> Iterator[Region]:
    pairs = sorted(
        ((position(domain, record.values[key]), record.values[key], record.number in bad)  # type: ignore[index]
         for record in trials), key=lambda pair: pair[0],
    )  # fmt: skip
    wrong, count = sum(pair[2] for pair in pairs), len(pairs)
    name = below(key)
    if isinstance(domain, Choice):
        for option in domain.options:
            hits = [pair[2] for pair in pairs if pair[1] == option]
            if 0 < len(hits) < count:
                rest = tuple(other for other in domain.options if other != option)
                left = Choice(rest) if len(rest) > 1 and not domain.branches else None
                inside = (sum(hits), len(hits))
                yield Region(key, f"{name} {option}", inside, (wrong - inside[0], count - inside[1]), left)
        return
    seen = 0
    for at, (last, first) in enumerate(pairwise(pairs), start=1):
        seen += last[2]
        if last[0] == first[0]:
            continue
        lower, upper = (seen, at), (wrong - seen, count - at)
        whole = isinstance(domain, Int) or domain.step is not None
        yield Region(
            key, f"{name} from {first[1]:.3g} up", upper, lower,
            _cut(domain, high=last[1] if whole else rounded(last[1])),
        )  # fmt: skip
        yield Region(
            key, f"{name} up to {last[1]:.3g}", lower, upper, _cut(domain, low=first[1] if whole else rounded(first[1]))
        )


def _cut(domain: Float | Int, **bound: float) -> Domain | None:
    try:
        return replace(domain, **bound)  # type: ignore[arg-type]
    except ConfigError:
        return None


def _fisher(bad_in: int, all_in: int, bad_out: int, all_out: int) -> float:
    """The chance of at least `bad_in` of `bad_in + bad_out` bad ones lying among `all_in` of all."""
    bad, count = bad_in + bad_out, all_in + all_out
    logs = _log_factorials(count)
    k = np.arange(bad_in, min(bad, all_in) + 1)
    k = k[count - bad - all_in + k >= 0]
    ways = logs[bad] - logs[k] - logs[bad - k]
    others = logs[count - bad] - logs[all_in - k] - logs[count - bad - all_in + k]
    total = logs[count] - logs[all_in] - logs[all_out]
    return float(np.exp(ways + others - total).sum())


@cache
def _log_factorials(count: int) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.cumsum(np.log(np.maximum(np.arange(count + 1), 1)))
    return logs
