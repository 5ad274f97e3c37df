"""Whether a search would try what no training is known to work with."""

from __future__ import annotations

from collections.abc import Iterator

from search.algorithms.searchers.random import draws
from search.study.spec import StudySpec
from trainables.config.plausibility import implausible

__all__ = ["implausible_trials"]

DRAWN = 200  # random trials that stand for a space
LEAST = 0.02  # of them that are worth a word


def implausible_trials(spec: StudySpec) -> Iterator[str]:
    """A line for each recipe that is far outside of anything published, and one for the space if some of it is.

    Raises:
        ConfigError: as `StudySpec.trial_config`.
    """
    for name in spec.recipes:
        for line in implausible(spec.trial_config(spec.recipe_config(name))):
            yield f"recipe {name} has {line}"
    points = (next(draws(spec.parsed_space, spec.seed, number)) for number in range(DRAWN))
    found = [lines for point in points if (lines := implausible(spec.trial_config(point.tree)))]
    if len(found) >= LEAST * DRAWN:
        yield f"{len(found) / DRAWN:.0%} of random trials of the space have such settings, as {found[0][0]}"
