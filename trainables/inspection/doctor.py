"""The data doctor: every check of a source of images, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.check import Check
from trainables.config import ConfigError, TrialConfig
from trainables.data.selection import selected
from trainables.data.source import SPLITS
from trainables.data.sources import open_source
from trainables.data.store import default_cache, prepare
from trainables.inspection.channels import channels
from trainables.inspection.defects import appearance, orientation, unreadable
from trainables.inspection.domain import domain
from trainables.inspection.duplicates import duplicates, superfluous, twins
from trainables.inspection.finding import Finding
from trainables.inspection.images import Scanned, scanned
from trainables.inspection.labels import out_of_fold
from trainables.inspection.suspects import INSTALL, pixel_features, wrong_labels
from trainables.inspection.thumbnails import MOST_SHOWN, thumbnail

__all__ = ["Inspection", "inspect_images"]

_MOST_SWAPPED = 1000  # images whose features decide about the channels' order


@dataclass(frozen=True)
class Inspection:
    """What was found in a source of images.

    Attributes:
        source: its name.
        class_names: of the labels.
        counts: images of each class in each split that the source has, readable ones.
        findings: every check, with what shows it.
        names: what the source calls the images, by number.
        left_out: names of the images that would better not be there, by reason: `unreadable`, `copies`,
            `contradictory` and `suspects`.
        thumbnails: a small JPEG of each image that an example shows, by number.
        weights: what was loaded of pretrained weights, in two lines; () without any.
    """

    source: str
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]
    findings: tuple[Finding, ...]
    names: tuple[str, ...]
    left_out: dict[str, list[str]]
    thumbnails: dict[int, bytes]
    weights: tuple[str, ...] = ()

    @property
    def checks(self) -> list[Check]:
        """All checks."""
        return [finding.check for finding in self.findings]


def inspect_images(
    config: TrialConfig, *, cache: Path | None = None, tell: Callable[[str], None] = lambda _: None
) -> Inspection:
    """Look for what is wrong with images and labels: every split that the source has, the test split too.

    Args:
        config: `data` names the images. `model` may name pretrained weights, whose features judge the labels;
            `data.resolution` is the size at which they see the images. `seed` decides about folds and samples.
        cache: the folder where images are prepared as for training, and downloads are stored; None: the usual one.
        tell: is called with a line about what takes long.

    Raises:
        ConfigError: if the source, its labels or the weights can't be used, or no image can be read.
    """
    from trainables.inspection.features import Features  # loads torch

    features = None if config.model.pretrained == "none" else Features(config)
    cache = cache or default_cache()
    contents = open_source(config.data.source, config.data.columns, config.data.group_by).contents(cache / "downloads")
    with scanned(selected(contents, config.data), tell) as images:
        if not len(images):
            raise ConfigError.single("data.source", config.data.source, "must hold images, of which one can be read")
        return _inspected(config, images, features, cache, tell)


def _inspected(
    config: TrialConfig, images: Scanned, features: Any, cache: Path, tell: Callable[[str], None]
) -> Inspection:
    tell(f"comparing {len(images):,} images with each other")
    same = twins(images)
    copies, contradictory = superfluous(images, same)
    found = [unreadable(images), *duplicates(images, same), *_as_prepared(config, images, cache)]
    if features is None:
        seen, by, swapped = pixel_features(images.squeezed), "their pixels", None
    else:
        tell("looking at them through the pretrained network")
        seen, by = features(images, range(len(images)), tell), f"the features of {Path(config.model.pretrained).name}"
        swapped = partial(_by_features, images, features, same.group, config.seed)
    tell("judging the labels")
    labels, suspects = wrong_labels(images, seen, same.group, by, config.seed)
    found += [labels, *domain(images, config.seed), channels(images, swapped), _appearance(images, tell)]
    found.append(orientation(images))
    shown = {number for finding in found for example in finding.examples[:MOST_SHOWN] for number in example.images}
    return Inspection(
        source=config.data.source,
        class_names=images.class_names,
        counts={split: np.bincount(images.labels[images.of(split)], minlength=len(images.class_names)).tolist()
                for split in SPLITS if len(images.of(split))},
        findings=tuple(found),
        names=tuple(images.names),
        left_out={
            "unreadable": [image.name for image in images.unreadable],
            **{reason: [images.names[number] for number in numbers] for reason, numbers in
               (("copies", copies), ("contradictory", contradictory), ("suspects", suspects))},
        },
        thumbnails={number: thumbnail(images.image(number)) for number in sorted(shown)},
        weights=() if features is None else features.lines,
    )  # fmt: skip


def _as_prepared(config: TrialConfig, images: Scanned, cache: Path) -> list[Finding]:
    """What preparing the images for training says of them: of classes, groups, and the splits that are made."""
    try:
        checks = prepare(config.data.model_copy(update={"on_corrupt": "skip"}), cache).checks
    except ConfigError as error:
        step = "mend that first: nothing can be trained on these images as they are"
        return [Finding(Check("preparation", "problem", problem.rule, step)) for problem in error.problems]
    known = {"labels"} if len(np.unique(images.splits)) < 2 else {"labels", "leak"}  # which are looked at closer here
    return [Finding(check) for check in checks if check.name not in known]


def _appearance(images: Scanned, tell: Callable[[str], None]) -> Finding:
    if find_spec("cleanvision") is None:
        said = "CleanVision is not installed, which finds dark, blank and blurred images"
        return Finding(Check("appearance", "unknown", said, INSTALL))
    tell("looking for dark, blank and blurred images")
    return appearance(images)


def _by_features(images: Scanned, features: Any, groups: NDArray[np.int64], seed: int) -> tuple[float, float, float]:
    """Cross-validated accuracy of the features as images are and with red and blue swapped, and its standard error."""
    counts = np.bincount(images.labels)
    rows = np.flatnonzero(counts[images.labels] >= 10)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_MOST_SWAPPED])
    _, labels = np.unique(images.labels[rows], return_inverse=True)
    seen = [features(images, rows.tolist(), swapped=swapped) for swapped in (False, True)]
    right = [out_of_fold(side, labels, groups[rows], (0.01,), seed).argmax(axis=1) == labels for side in seen]
    error = (right[0].astype(float) - right[1]).std() / np.sqrt(len(rows))
    return float(right[0].mean()), float(right[1].mean()), float(error)
