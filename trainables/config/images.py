"""Data and augmentation: which images a trial sees, and how they are changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.part import Count, Finite, Fraction, Part, Positive, Whole

__all__ = ["Augment", "Data", "Normalization"]


class Normalization(Part):
    """Per-channel mean and standard deviation of pixels scaled to 0..1."""

    mean: Annotated[tuple[Finite, Finite, Finite], Field(strict=False)]
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


class Data(Part):
    """Which images, how many of them, and how they are split; the same for every trial of a study.

    `source` is `cifar10`, `cifar100`, `digits`, `synthetic`, `imagefolder:PATH` or `parquet:PATH`. `resolution`
    (pixels) resizes to a square; null keeps the images' own size where all are alike and takes 224 otherwise.
    `train_samples` and `val_samples` cap the splits, stratified. `train_eval_samples` training images, unaugmented,
    give train_accuracy.
    """

    source: str = "cifar10"
    resolution: Annotated[int, Field(ge=8, le=1024)] | None = None
    train_samples: Count | None = None
    val_samples: Count | None = None
    train_eval_samples: Count = 1000
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    split_seed: Whole = 0
    normalize: Literal["auto", "dataset"] | Normalization = "auto"
    on_corrupt: Literal["error", "skip"] = "error"

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, path = source.partition(":")
        plain, with_path = ("cifar10", "cifar100", "digits", "synthetic"), ("imagefolder", "parquet")
        if (kind in plain and not _) or (kind in with_path and path):
            return source
        raise ValueError(f"must be one of {', '.join(plain)}, {', '.join(k + ':PATH' for k in with_path)}")


class Augment(Part):
    """Random changes to training images; `strength` from 0 (none) to 1 (as written) scales them all.

    `pad_crop` is the zero padding on each side as a fraction of the side (4 pixels of 32 are 0.125); `resized_crop`
    the smallest area of a random resized crop (1 is off); `color_jitter` the largest relative change of brightness,
    contrast and saturation; `hue` a fraction of the color circle; `rotation` degrees; `cutout` the side of the erased
    square as a fraction of the image's; `mixup` and `cutmix` the alpha of the Beta distribution (0 is off; with both,
    each batch draws one). `policy` is RandAugment (Cubuk et al. 2019) or TrivialAugment (Mueller and Hutter 2021).
    """

    strength: Fraction = 1.0
    pad_crop: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    resized_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    flip: bool = False
    color_jitter: Fraction = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    randaugment_ops: Annotated[int, Field(ge=1, le=8)] = 2
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    cutout: Fraction = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0

    @field_validator("resized_crop")
    @classmethod
    def _one_crop(cls, area: float, info: ValidationInfo) -> float:
        if area < 1 and info.data.get("pad_crop", 0) > 0:
            raise ValueError("must be 1 (off) when pad_crop is above 0: choose one of the two crops")
        return area
