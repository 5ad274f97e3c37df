"""Everything that can be found wrong before the first trial starts is found here, and told in a line."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from search.cost import UNTYPED, Prices, unpriced
from search.journal import read
from search.kept import fetch_study, has_study
from search.storage import Storage
from search.study import StudySpec, load_study, parse_study
from spaces import Choice, Scalar, walk
from trainables.config import ConfigError, SyntheticCurve, TrialConfig
from trainables.store import Request, Store, request

__all__ = ["check_inputs", "check_prices", "check_resources", "continued", "possible_configs", "study_folder"]


def study_folder(spec: StudySpec, out: Path, fresh: bool, storage: Storage | None = None) -> tuple[StudySpec, bool]:
    """The study as it will be searched, under the name whose folder below `out` it uses, and whether it goes on there.

    The folder is made. With `fresh` it is the first free one of `<study>`, `<study>-2`, ... What the storage has more
    of is fetched first.

    Raises:
        ConfigError: if `out` cannot be written, or what it holds under this name is another study.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError.single(
            "--out", str(out), f"must be a folder that can be written ({error.strerror})"
        ) from None
    name, number = spec.study, 1
    if storage is not None and not fresh:
        fetch_study(storage.child(name), out / name)
    while any(read(out / name / "journal")) or (fresh and storage is not None and has_study(storage.child(name))):
        if not fresh:
            return continued(spec, out / name), True
        number += 1
        name = f"{spec.study}-{number}"
    (out / name).mkdir(exist_ok=True)
    return spec.model_copy(update={"study": name}), False


def continued(spec: StudySpec, folder: Path) -> StudySpec:
    """`spec`, to go on in a folder that holds the study already, with what was decided then about the machine.

    Raises:
        ConfigError: if the folder holds a study that differs in more than how it is run, or had a larger budget.
    """
    stored = load_study(str(folder / "study.yaml"))
    changed = stored.difference(spec)
    way_out = "give the same options to go on with it, --fresh to start another beside it"
    if changed:
        rule = f"holds a study of this name that differs: {'; '.join(changed)}. A study keeps what it is; {way_out}"
        raise ConfigError.single("--out", str(folder), rule)
    old, new = stored.budget, spec.budget
    grown = (
        ("--trials", old.trials, new.trials), ("--hours", old.hours, new.hours),
        ("--max-cost", old.max_cost, new.max_cost),
    )  # fmt: skip
    for option, before, now in grown:
        if now is not None and now < (math.inf if before is None else before):
            limit = "no limit" if before is None else f"{before:g}"
            rule = f"may grow but not shrink, and {folder} was begun with {limit}; {way_out}"
            raise ConfigError.single(option, now, rule)
    tree = spec.model_dump()
    tree["trial"]["execution"] = stored.trial["execution"]
    if tree["resources"]["gpus_per_trial"] is None:
        tree["resources"]["gpus_per_trial"] = stored.resources.gpus_per_trial
    if tree["resources"]["prices"] is None:  # or what the study has cost would stand still from now on
        tree["resources"]["prices"] = stored.model_dump()["resources"]["prices"]
    return parse_study(tree)


def possible_configs(spec: StudySpec) -> Iterator[TrialConfig]:
    """Configs that between them use every recipe and every option of every choice of the space."""
    for recipe in spec.recipes.values():
        yield spec.trial_config(recipe.config)
    number, most = 0, 1
    while number < most:
        options = 1

        def pick(key: str, domain: object, number: int = number) -> Scalar:
            nonlocal options
            if isinstance(domain, Choice):
                options = max(options, len(domain.options))
                return domain.options[number % len(domain.options)]
            return domain.high  # type: ignore[attr-defined, no-any-return]

        yield spec.trial_config(walk(spec.parsed_space, pick).tree)
        most = max(most, options)
        number += 1


def check_inputs(spec: StudySpec, cache: Path) -> dict[Request, Store]:
    """Prepare the images and fetch the pretrained weights that any trial may use; returns the stores of the images.

    Raises:
        ConfigError: if images or weights cannot be had; nothing has been started then.
    """
    configs = [config for config in possible_configs(spec) if not isinstance(config.model, SyntheticCurve)]
    if not configs:
        return {}
    from trainables.data import load_splits  # loads torch
    from trainables.pretrained import check_pretrained

    stores = {request(data): load_splits(data, cache).store for data in dict.fromkeys(c.data for c in configs)}
    for model in dict.fromkeys(config.model for config in configs):
        check_pretrained(model)
    return stores


def check_resources(spec: StudySpec, available: Mapping[str, float]) -> int:
    """How many trials run at once, given what Ray has (`CPU`, `GPU`): as many as fit, at most `resources.concurrent`.

    Raises:
        ConfigError: if not even one trial fits.
    """
    fits: list[int] = []
    for kind, amount in spec.resources.of_a_trial.items():
        if amount > 0:
            have = available.get(kind, 0.0)
            if have < amount:
                rule = f"must be at most {have:g}, what this Ray has"
                asked = spec.resources.gpus_per_trial if kind == "GPU" else amount
                raise ConfigError.single(f"--{kind.lower()}s-per-trial", asked, rule)
            fits.append(int(have / amount + 1e-9))
    most = min(fits, default=os.cpu_count() or 1)
    return min(most, spec.resources.concurrent or most)


def check_prices(prices: Prices | None, types: Iterable[str]) -> None:
    """Every type of node that is there, or may come, must have a price, if prices are given by type.

    Raises:
        ConfigError: naming the types without one.
    """
    if not (missing := unpriced(prices, types)):
        return
    options = " ".join(f"--price {kind}=X" for kind in missing)
    what = f" ({UNTYPED}: one whose type Ray does not know)" if UNTYPED in missing else ""
    rule = f"must name every type of node, and {', '.join(missing)} is missing{what}: {options}, or --price X for each"
    raise ConfigError.single("--price", prices, rule)
