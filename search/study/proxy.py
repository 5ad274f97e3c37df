"""`proxy`: the search trains a smaller network on fewer images, and what it finds is carried over to the study's own.

Every setting stays as it was found, but for the learning rate of SGD there are two claims. With depth its optimum falls
as the power -3/2 of the effective depth, which counts layers and residual additions on the shortest path from input to
output (Wu et al. 2026, "Hyperparameter Transfer Laws for Non-Recurrent Multi-Path Neural Networks", arXiv:2602.07494):
derived for the largest stable step at an initialization that keeps networks of all depths stable, in its predecessor by
scaling residual branches with the number of blocks (arXiv:2510.04327). It stays where it is where branches are scaled
by one over the root of the depth (Bordelon et al. 2023, arXiv:2309.16620). Networks with batch norm are initialized in
neither way, so both rates are raced. No such law is known to us for Adam and its kin: their rate stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from pydantic import model_validator

from search.study.settings import Section
from search.study.trial_tree import compose, config_problems
from trainables.config import Problem, TrialConfig, flatten, parse_config
from trainables.config.part import Count

__all__ = ["Proxy", "carried_over", "proxy_problems", "scaled_rate"]

EXPONENT = -1.5


class Proxy(Section):
    """What the trials of the search train instead of the study's own network and images, to be cheaper.

    `depth` is that of a smaller network of the same kind, `train_samples` how many training images they get. The refit,
    which such a study needs, carries the best settings over and trains the study's own network, on all its images.
    """

    depth: Count | None = None
    train_samples: Count | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Proxy:
        if not self.fixed:
            raise ValueError("must set depth or train_samples, of the network and the images that the search trains")
        return self

    @property
    def fixed(self) -> dict[str, Any]:
        """What it fixes in every trial of the search, by path."""
        values = {"model.depth": self.depth, "data.train_samples": self.train_samples}
        return {path: value for path, value in values.items() if value is not None}

    @property
    def words(self) -> str:
        """What the search trains, as in `at depth 20 on 10,000 images`."""
        depth = "" if self.depth is None else f"at depth {self.depth}"
        images = "" if self.train_samples is None else f"on {self.train_samples:,} images"
        return " ".join(filter(None, [depth, images]))


class _Deep(Protocol):
    @property
    def effective_depth(self) -> int: ...


def scaled_rate(rate: float, small: _Deep, deep: _Deep) -> float:
    """The learning rate of SGD for `deep` by the law of arXiv:2602.07494, given that for `small`."""
    return float(rate * (deep.effective_depth / small.effective_depth) ** EXPONENT)


def carried_over(config: Mapping[str, Any], proxy: Proxy, own: TrialConfig, scaled: bool) -> tuple[dict[str, Any], str]:
    """A trial's config with the study's own network and images, and in words where its settings come from.

    Args:
        config: of a trial of the search, whole and valid.
        proxy: the study's.
        own: a config of the study without its proxy.
        scaled: change the learning rate by `scaled_rate`, if it is SGD's and the depth is another.
    """
    whole, full = dict(config), own.model_dump(mode="json")
    for path in proxy.fixed:
        section, key = path.split(".")
        whole[section] = {**whole[section], key: full[section][key]}
    small, rate = parse_config(config), config["optimizer"]["lr"]
    if not (scaled and proxy.depth is not None and config["optimizer"]["kind"] == "sgd"):
        return whole, f"all settings as found {proxy.words}"
    now = scaled_rate(rate, small.model, own.model)  # type: ignore[arg-type]  # `proxy_problems` saw to its depth
    whole["optimizer"] = {**whole["optimizer"], "lr": now}
    return whole, f"settings as found {proxy.words}; learning rate carried from {rate:.3g} to {now:.3g} by depth^(-3/2)"


def proxy_problems(
    proxy: Proxy, has_refit: bool, trial: Mapping[str, Any], fixed: Mapping[str, Any],
    tried: Iterable[Mapping[str, Any]],
) -> Iterator[Problem]:  # fmt: skip
    """Why a study, valid without it, cannot be searched with `proxy`.

    Args:
        proxy: the study's.
        has_refit: whether it has one.
        trial, fixed: the study's.
        tried: what its recipes and its space lay over `trial`.
    """
    own = compose(trial, {}, fixed)
    if not has_refit:
        rule = "needs `refit`, which trains the study's own network: add refit: {top: 3, seeds: 5}"
        yield Problem("proxy", proxy.fixed, rule)
    depth, samples = own["model"].get("depth"), own["data"]["train_samples"]
    if proxy.depth is not None and depth is None:
        kind = own["model"]["kind"]
        yield Problem("proxy.depth", proxy.depth, f"must be left out: {kind} has no depth; fewer train_samples remain")
    elif proxy.depth is not None and proxy.depth >= depth:
        yield Problem("proxy.depth", proxy.depth, f"must be below the study's own model.depth, {depth}")
    elif proxy.depth is not None:
        known = {(problem.path, problem.rule) for problem in config_problems(own)}
        for problem in config_problems(compose(trial, {}, {**fixed, "model.depth": proxy.depth})):
            if (problem.path, problem.rule) not in known:
                rule = problem.rule if problem.path == "model.depth" else f"makes a {problem.path} that {problem.rule}"
                yield Problem("proxy.depth", proxy.depth, rule)
    if proxy.train_samples is not None and samples is not None and proxy.train_samples >= samples:
        rule = f"must be below the study's own data.train_samples, {samples:,}"
        yield Problem("proxy.train_samples", proxy.train_samples, rule)
    varied = {path for tree in tried for path in flatten(tree)} - fixed.keys()
    for path in proxy.fixed:
        key = path.split(".")[1]
        for other in (path, "model.kind") if key == "depth" else (path,):
            if other in varied:
                rule = f"must be left out, or {other} out of space and recipes: fix it with --set {other}=..."
                yield Problem(f"proxy.{key}", proxy.fixed[path], rule)
