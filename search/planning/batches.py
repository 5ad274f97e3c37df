"""Whether batch norm can train on the batches of every trial that a study may make."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from search.study.spec import StudySpec
from search.study.trial_tree import compose
from spaces import Choice, Domain, Entry, path_of, rewrite
from spaces.combinations import Values, combinations
from trainables.config import ConfigError, TrialConfig

__all__ = ["check_batches"]

DECISIVE = ("batch_size", "data", "model")
MOST_COMBINATIONS = 2000


def check_batches(spec: StudySpec, cache: Path) -> None:
    """See that no trial would train batch norm on one image at a time where its last maps are one pixel.

    Raises:
        ConfigError: naming the combination of which one would.
    """
    for name, config in _single_images(spec):
        if not config.model.is_network:
            continue
        from trainables.data.images import load_splits  # loads torch
        from trainables.models.cost import batch_norm_problem

        train = load_splits(config.data, cache).train
        if problem := batch_norm_problem(config, len(train), train.size):
            raise ConfigError.single(problem.path, problem.value, f"{problem.rule} ({name})")


def _single_images(spec: StudySpec) -> Iterator[tuple[str, TrialConfig]]:
    """The configs with batches of one image, and what makes them."""
    points = islice(combinations(rewrite(spec.parsed_space, _decisive), _extreme), MOST_COMBINATIONS)
    drawn = ((", ".join(f"{path_of(key)} {value}" for key, value in p.values.items()), p.tree) for p in points)
    recipes = ((f"recipe {name}", spec.recipe_config(name)) for name in spec.recipes)
    for name, tree in (("the trial defaults", {}), *recipes, *drawn):
        for phase in spec.phases:
            whole = compose(spec.trial, tree, phase.all_fixed)
            if 1 in (whole["batch_size"], whole["data"]["train_samples"]):
                yield name, phase.trial_config(tree)


def _decisive(entry: Entry) -> Iterator[Entry]:
    branches = entry.domain.branches if isinstance(entry.domain, Choice) else ()
    if entry.path.split(".")[0] in DECISIVE or any(branch.entries for branch in branches):
        yield entry


def _extreme(domain: Domain) -> Values:
    """Every option, and of a range the lower end: the smallest batch, image and number of frozen stages."""
    if isinstance(domain, Choice):
        return len(domain.options), domain.options.__getitem__
    return 1, (domain.low,).__getitem__
