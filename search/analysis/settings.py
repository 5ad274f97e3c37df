"""Checks of the space: its ranges, its size, which settings matter and where trials go wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from search.analysis.measures import below, effects, judged, number_of_trials, position, rank_correlation
from search.analysis.ranges import concentration, wider, yaml_line
from search.journal.error_text import error_summary
from search.journal.records import TrialRecord, TrialStatus
from search.journal.result import StudyResult
from spaces import Choice, Domain, Float, Int, Space
from spaces.combinations import count
from trainables.check import Check, CheckStatus

__all__ = ["divergence", "edges", "enough_trials", "failures", "influence"]

FEW = 8  # judged trials below which the order says nothing about a setting
ENOUGH = 20  # from here on, no visible effect means something
PER_SETTING = 2  # trials a searched setting
IN_A_COPY = ", in a copy of {file}, which --fresh starts"


def edges(result: StudyResult) -> Check:
    """Whether the best value of a setting lies where its range ends.

    So it does where the best trial lies in the outer tenth, and the trials get better toward there over the whole
    range, by more than chance (p < 0.1, corrected for the number of ranges and ends).
    """
    name, best, (trials, order) = "range edges", result.best(), judged(result)
    if best is None or len(trials) < FEW:
        return Check(name, "unknown", _too_few(trials))
    if best.values is None:
        return Check(name, "unknown", "the best trial is a recipe outside the space")
    ranges = {
        key: domain for key, domain in result.spec.parsed_space.domains().items()
        if isinstance(domain, Float | Int) and key in best.values
    }  # fmt: skip
    found, lines = [], []
    for key, domain in ranges.items():
        at, placed = position(domain, best.values[key]), zip(trials, order, strict=True)
        here = [(position(domain, r.values[key]), o) for r, o in placed if r.values and key in r.values]
        if 0.1 < at < 0.9 or len(here) < FEW:
            continue
        trend = rank_correlation(*zip(*here, strict=True))
        new = wider(domain, key, dict(best.config), at > 0.5)
        if new is not None and _chance(trend if at > 0.5 else -trend, len(here)) * 2 * len(ranges) < 0.1:
            end = f"the {'upper' if at > 0.5 else 'lower'} end, {domain.high if at > 0.5 else domain.low:g}"
            found.append(f"{below(key)} {best.values[key]:.3g} is at {end}, and trials get better toward it")
            lines.append(yaml_line(key, new))
    if found:
        return Check(name, "warning", "; ".join(found), f"search further: {'; '.join(lines)}{IN_A_COPY}")
    return Check(name, "ok", f"no trend toward an end of the {len(ranges)} ranges that the best trial uses")


def _chance(correlation: float, trials: int) -> float:
    """Of a rank correlation this high without a trend; the normal approximation."""
    return 0.5 * math.erfc(correlation * math.sqrt(trials - 1) / math.sqrt(2))


def influence(result: StudyResult) -> Check:
    """Whether the order of the trials depends on any setting by more than noise."""
    name, (trials, _), found = "influence", judged(result), effects(result)
    if found is None:
        return Check(name, "unknown", _too_few(trials))
    first = found.settings[0]
    share = f"{below(first.key)} explains {first.explained:.0%} of the ranking of {len(trials)} trials"
    if found.chance <= 0.05:
        more = ", ".join(below(effect.key) for effect in found.settings[1:4] if effect.chance <= 0.01)
        return Check(name, "ok", share + (f", beside {more}" if more else ""))
    share += f"; by chance alone it would be as much in {found.chance:.0%} of searches"
    if len(trials) < ENOUGH or found.chance <= 0.2:
        return Check(name, "unknown", f"not clear yet: {share}")
    text = f"no setting has an effect beyond noise: {share}"
    step = f"{{search}} --epochs {2 * result.spec.budget.epochs} --fresh   # train longer; or search wider ranges"
    return Check(name, "warning", text, f"{step} or other settings")


def enough_trials(result: StudyResult) -> Check:
    """Whether there are trials enough for the number of settings: two for each, recipes not counted."""
    name, spec = "number of trials", result.spec
    suggested = sum(record.recipe is None for record in result.trials)
    planned = suggested if result.finished else max(suggested, spec.budget.trials - len(spec.recipes))
    settings, points = _dimensions(spec.parsed_space), count(spec.parsed_space)
    enough = min(PER_SETTING * settings, math.inf if points is None else points)
    so_far = f" so far, of {planned} planned," if suggested < planned else ""
    text = f"{number_of_trials(suggested, 'suggested')}{so_far} for {settings} searched setting{'s' * (settings != 1)}"
    if suggested >= enough:
        return Check(name, "ok", text)
    if planned >= enough:
        return Check(name, "unknown", f"{text}: the search is not over")
    wanted = 3 * settings + len(spec.recipes)
    step = f"{{search}} --trials {wanted}   # or search less: --set KEY=VALUE --fresh fixes a setting"
    seen = "will not be seen" if so_far else "was not seen"
    return Check(name, "warning", f"{text}: too few, most of the space {seen}", step)


def _dimensions(space: Space) -> int:
    """The most settings that one trial can have."""
    most = 0
    for entry in space.entries:
        if isinstance(entry.domain, Choice):
            most += 1 + max(map(_dimensions, entry.domain.branches), default=0)
        else:
            most += isinstance(entry.domain, Float | Int)
    return most


def divergence(result: StudyResult) -> Check:
    """How many trials diverged, and where."""
    name, ended = "divergence", [record for record in result.trials if record.status.ended]
    bad = [record for record in ended if record.status is TrialStatus.DIVERGED]
    if not ended:
        return Check(name, "unknown", "no trial has ended")
    text = f"{len(bad)} of {len(ended)} trials diverged"
    if len(bad) < 2 or len(bad) <= 0.2 * len(ended):
        return Check(name, "ok", text)
    where, step = _where(result.spec.parsed_space.domains(), ended, bad)
    status: CheckStatus = "problem" if len(bad) > 0.5 * len(ended) else "warning"
    return Check(name, status, f"{text}, {where}", step or "lower the learning rates: a smaller `high` in the space")


def failures(result: StudyResult) -> Check:
    """How many trials failed with an error, and where."""
    name, ended = "failures", [record for record in result.trials if record.status.ended]
    bad = [record for record in ended if record.status is TrialStatus.FAILED]
    if not ended:
        return Check(name, "unknown", "no trial has ended")
    if not bad:
        return Check(name, "ok", f"none of {len(ended)} trials failed")
    (error, times), *_ = Counter(error_summary(record.error or "") for record in bad).most_common(1)
    where, step = _where(result.spec.parsed_space.domains(), ended, bad)
    often = "" if times == len(bad) else f" ({times} times)"
    text = f"{len(bad)} of {len(ended)} trials failed, {where}: {error[:160]}{often}"
    return Check(
        name,
        "problem" if len(bad) > 0.5 * len(ended) else "warning",
        text,
        step or "python -m search.status {study}",
    )


def _where(
    domains: dict[str, Domain], ended: Iterable[TrialRecord], bad: Iterable[TrialRecord]
) -> tuple[str, str | None]:
    """Where trials go wrong, in words, and the range without that part."""
    judged_here = [record for record in ended if record.values is not None]
    region = concentration(domains, judged_here, {record.number for record in bad})
    if region is None:
        return "all over the space", None
    (in_bad, in_all), (out_bad, out_all) = region.inside, region.outside
    text = f"most with {region.text}: {in_bad} of {in_all} there, {out_bad} of {out_all} elsewhere"
    return text, None if region.rest is None else f"search less far: {yaml_line(region.key, region.rest)}{IN_A_COPY}"


def _too_few(trials: list[TrialRecord]) -> str:
    return f"{number_of_trials(len(trials), 'suggested')} judged; at least {FEW} are needed"
