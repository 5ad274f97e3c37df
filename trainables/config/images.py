"""Data and augmentation: which images a trial sees, and how they are changed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.part import Count, Finite, Fraction, Part, Positive, Whole
from trainables.config.paths import absolute_path
from trainables.config.plugins import is_dotted_path, is_recorded, load_plugin, plugin_names

__all__ = [
    "SOURCES", "Augment", "Columns", "Data", "Normalization", "SourceKind", "canonical_source", "check_pattern",
    "is_small", "split_source", "without_path",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A source of images that needs no plug-in: its name in `data.source`, and whether `:PATH` follows.

    Images that are `small`, at most 32 pixels a side, need no `resolution` to be trained on quickly. `images` is how
    many there are that are not for testing, `side` how many pixels they have; None where the user's own decide.
    """

    name: str
    takes_path: bool = False
    images: int | None = None
    side: int | None = None

    @property
    def small(self) -> bool:
        """Whether the images are known to be small."""
        return self.side is not None

    def __str__(self) -> str:
        return f"{self.name}:PATH" if self.takes_path else self.name


SOURCES = {
    kind.name: kind
    for kind in (
        SourceKind("cifar10", images=50_000, side=32),
        SourceKind("cifar100", images=50_000, side=32),
        SourceKind("digits", images=1_527, side=8),
        SourceKind("synthetic", images=0, side=32),
        SourceKind("imagefolder", takes_path=True),
        SourceKind("parquet", takes_path=True),
    )
}


def split_source(source: str) -> tuple[str, str]:
    """The kind of a `data.source` and its argument, "" without one.

    The kind is one of `SOURCES`, an entry point, or a dotted path, which holds a colon itself: `my_pkg:Birds:ARGUMENT`.
    """
    name, _, rest = source.partition(":")
    if name in SOURCES or name in plugin_names("data_source") or ":" not in source:
        return name, rest
    attribute, _, argument = rest.partition(":")
    return f"{name}:{attribute}", argument


def canonical_source(source: str) -> str:
    """`source` with its path absolute and free of links: it means the same in every process and working directory.

    The argument of a plug-in stays as it is.
    """
    kind, argument = split_source(source)
    if kind in SOURCES and SOURCES[kind].takes_path and argument:
        return f"{kind}:{absolute_path(argument)}"
    return source


def without_path(source: str) -> str:
    """`source` without the path of its images, which may be moved: a fingerprint says whether they are the same."""
    kind, _ = split_source(source)
    return kind if kind in SOURCES and SOURCES[kind].takes_path else source


def is_small(source: str) -> bool:
    """Whether images of this source are small as they come; a plug-in may say so by an attribute `small`."""
    kind, _ = split_source(source)
    return SOURCES[kind].small if kind in SOURCES else bool(getattr(load_plugin("data_source", kind), "small", False))


class Normalization(Part):
    """Per-channel mean and standard deviation of pixels scaled to 0..1."""

    mean: Annotated[tuple[Finite, Finite, Finite], Field(strict=False)]
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


class Columns(Part):
    """The columns of a Parquet source; null finds them: docs/data.md says how."""

    image: str | None = None
    label: str | None = None


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that does not find one group in an image's name.

    Raises:
        ValueError: what is wrong with it.
    """
    rule = r"must be a pattern with one group in parentheses, such as '(patient\d+)_'"
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{rule}: it is no regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"{rule}, and has {groups or 'none'}")


class Data(Part):
    """Which images, how many of them, and how they are split; the same for every trial of a study.

    `source` is `cifar10`, `cifar100`, `digits`, `synthetic`, `imagefolder:PATH`, `parquet:PATH` or a plug-in's, as
    `NAME:ARGUMENT` of its entry point or `package.module:Name:ARGUMENT`, the argument being optional. `columns` names
    those of a Parquet source that are not found by themselves. `resolution` (pixels) resizes to a square; null keeps
    the images' own size where all are alike and takes 224 otherwise. `train_samples` and `val_samples` cap the splits,
    stratified. `train_eval_samples` training images, unaugmented, give train_accuracy.

    With `folds`, whatever is not test is split into so many stratified folds, and the trial validates on number `fold`,
    counted from 0; `repeat` draws other folds. The test split is the same with and without them.

    Splits keep near-identical images on one side. `group_by` keeps more together, images of a patient, a camera or a
    video: it is a column of a Parquet source, or a pattern (a regular expression) whose one group, in parentheses, is
    found in the images' names. `exclude` is a text file of images to leave out, one a line by its name.

    `decoding` of image files that are cut to squares: `exact` gives the pixels of torchvision's `Resize` and
    `CenterCrop`; `reduced` decodes large JPEGs at a fraction of their size: faster, and not quite the same pixels.
    Random crops of a training image are always decoded so, never at less than twice the size that they get.
    """

    source: str = "cifar10"
    # Keys that were added later are left out of dumps unless they are set: what a study is has not changed since.
    columns: Annotated[Columns, Field(exclude_if=lambda columns: columns == Columns())] = Columns()
    resolution: Annotated[int, Field(ge=8, le=1024)] | None = None
    train_samples: Count | None = None
    val_samples: Count | None = None
    train_eval_samples: Count = 1000
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    split_seed: Whole = 0
    folds: Annotated[int | None, Field(ge=2, le=100, exclude_if=lambda folds: folds is None)] = None
    fold: Annotated[Whole, Field(exclude_if=lambda fold: fold == 0)] = 0
    repeat: Annotated[Whole, Field(exclude_if=lambda repeat: repeat == 0)] = 0
    normalize: Literal["auto", "dataset"] | Normalization = "auto"
    on_corrupt: Literal["error", "skip"] = "error"
    group_by: Annotated[str | None, Field(min_length=1, exclude_if=lambda group_by: group_by is None)] = None
    exclude: Annotated[str | None, Field(min_length=1, exclude_if=lambda exclude: exclude is None)] = None
    decoding: Annotated[Literal["exact", "reduced"], Field(exclude_if=lambda decoding: decoding == "exact")] = "exact"

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, argument = split_source(source)
        known = f"must be one of {', '.join(map(str, SOURCES.values()))}"
        if kind in SOURCES:
            if SOURCES[kind].takes_path != bool(argument) or source.endswith(":"):
                raise ValueError(known)
            return source
        if is_recorded(kind):
            return source
        if not is_dotted_path(kind) and kind not in plugin_names("data_source"):
            meant = "" if not os.path.exists(source) else f": write imagefolder:{source} or parquet:{source}"
            raise ValueError(f"{known}, or a plug-in: its entry point or package.module:Name{meant}")
        try:
            loaded = load_plugin("data_source", kind)
        except ValueError as error:
            raise ValueError(f"{known}; as a plug-in it {error}") from None
        if not callable(loaded):
            raise ValueError("must name a plug-in's class or function that is called as Source(argument)")
        return source

    @field_validator("columns")
    @classmethod
    def _columns_of_a_table(cls, columns: Columns, info: ValidationInfo) -> Columns:
        if columns != Columns() and split_source(info.data.get("source", ""))[0] != "parquet":
            raise ValueError("must be left out unless the source is parquet:PATH")
        return columns

    @field_validator("group_by")
    @classmethod
    def _pattern_with_a_group(cls, group_by: str | None, info: ValidationInfo) -> str | None:
        if group_by is not None and split_source(info.data.get("source", ""))[0] != "parquet":  # else perhaps a column
            check_pattern(group_by)
        return group_by

    @field_validator("fold", "repeat")
    @classmethod
    def _one_of_the_folds(cls, number: int, info: ValidationInfo) -> int:
        if "folds" in info.data:  # else it is refused itself
            folds = info.data["folds"]
            if folds is None and number:
                raise ValueError("must be 0 unless `data.folds` is set")
            if folds is not None and info.field_name == "fold" and number >= folds:
                raise ValueError(f"must be below `data.folds`, {folds}: folds are counted from 0")
        return number


class Augment(Part):
    """Random changes to training images; `strength` from 0 (none) to 1 (as written) scales them all.

    `pad_crop` is the padding on each side as a fraction of the side (4 pixels of 32 are 0.125); `padding` what lies
    beyond the edge, there and where `rotation` shows it: black, or the image reflected. `resized_crop` is the smallest
    area of a random resized crop (1 is off). `flip` mirrors half of the images left to right, drawn anew each time or,
    `alternating`, each image in every other epoch (Jordan 2024, arXiv:2404.00498). `color_jitter` is the largest
    relative change of brightness, contrast and saturation; `hue` a fraction of the color circle; `rotation` degrees;
    `cutout` the side of the erased square as a fraction of the image's; `mixup` and `cutmix` the alpha of the Beta
    distribution (0 is off; with both, each batch draws one). `policy` is RandAugment (Cubuk et al. 2019) or
    TrivialAugment (Mueller and Hutter 2021). `first_scale` below 1 is progressive resizing: the side of the images in
    the first epoch as a fraction of what it is in the last fifth of the run, as in FFCV's and MosaicML's recipes;
    validation sees the whole size.
    """

    strength: Fraction = 1.0
    pad_crop: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    resized_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    padding: Annotated[Literal["zeros", "reflect"], Field(exclude_if=lambda padding: padding == "zeros")] = "zeros"
    flip: bool = False
    flip_order: Annotated[Literal["random", "alternating"], Field(exclude_if=lambda order: order == "random")] = (
        "random"
    )
    color_jitter: Fraction = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    randaugment_ops: Annotated[int, Field(ge=1, le=8)] = 2
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    cutout: Fraction = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0
    first_scale: Annotated[float, Field(ge=0.25, le=1, exclude_if=lambda scale: scale == 1)] = 1.0

    @field_validator("resized_crop")
    @classmethod
    def _one_crop(cls, area: float, info: ValidationInfo) -> float:
        if area < 1 and info.data.get("pad_crop", 0) > 0:
            raise ValueError("must be 1 (off) when pad_crop is above 0: choose one of the two crops")
        return area
