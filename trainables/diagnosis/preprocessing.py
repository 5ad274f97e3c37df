"""Which preparation of the images explains the predictions of another pipeline: every usual one is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.check import Check, CheckStatus
from trainables.data.decode import decode
from trainables.diagnosis.finding import Finding, Weight
from trainables.diagnosis.predictions import Predictions, encoded_images
from trainables.diagnosis.scale import Candidate, candidates
from trainables.diagnosis.subject import Say, Subject
from trainables.training.execution import autocast

__all__ = ["reproduced"]

NAME = "preprocessing"
AGREES = 0.98  # share of equal predictions, from which another pipeline does what training did
EXPLAINS = 0.9  # from which a preparation is named as what it does
CLEAR = 0.02  # by which it must lead over the training's own
BATCHES = (32, 64, 128)  # usual ones, for a network that was left in train mode
AS_TRAINED = "as in training"
# torchvision's usual evaluation resizes to 256 pixels before it cuts 224 out of the middle.
BEFORE_CROP = 256 / 224


@dataclass(frozen=True)
class _Way:
    """One way to predict: geometry, values, and the batch of a network in train mode (0: eval mode)."""

    geometry: str
    values: Candidate
    train_batch: int = 0

    def words(self) -> str:
        """What it is, its unremarkable parts left out."""
        parts = [] if self.geometry == AS_TRAINED else [self.geometry]
        if not self.values.name.startswith("as "):
            parts.append(self.values.name)
        elif self.values.swapped:
            parts.append("channels in the order BGR")
        if self.train_batch:
            parts.append(f"the network in train mode, in batches of {self.train_batch}")
        return "; ".join(parts) or AS_TRAINED


def _center(image: Tensor, side: int) -> Tensor:
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    return image[..., top : top + side, left : left + side]


def _resized(image: Tensor, height: int, width: int, mode: str = "bilinear", antialias: bool = True) -> Tensor:
    smooth = mode in ("bilinear", "bicubic")
    options = {"align_corners": False, "antialias": antialias} if smooth else {}
    return functional.interpolate(image[None], size=(height, width), mode=mode, **options)[0].clamp(0, 255)


def _shorter(image: Tensor, to: int, side: int, mode: str = "bilinear", antialias: bool = True) -> Tensor:
    scale = to / min(image.shape[-2:])
    height, width = (max(to, round(length * scale)) for length in image.shape[-2:])
    return _center(_resized(image, height, width, mode, antialias), side)


GEOMETRIES: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "squashed to a square, whatever its aspect": lambda image, side: _resized(image, side, side),
    "resized a seventh larger, then cut out of the middle": (
        lambda image, side: _shorter(image, round(side * BEFORE_CROP), side)
    ),
    "cut out of the middle without resizing": (
        lambda image, side: _shorter(image, max(min(image.shape[-2:]), side), side)
    ),
    "bilinear interpolation without antialiasing": (
        lambda image, side: _shorter(image, side, side, "bilinear", antialias=False)
    ),
    "bicubic interpolation": lambda image, side: _shorter(image, side, side, "bicubic"),
    "nearest-neighbor interpolation": lambda image, side: _shorter(image, side, side, "nearest-exact"),
    "nearest-neighbor interpolation of OpenCV": lambda image, side: _shorter(image, side, side, "nearest"),
}  # fmt: skip


class _Pipeline:
    """Predictions of the subject on the rows that another pipeline predicted, prepared in any way."""

    def __init__(self, subject: Subject, theirs: Predictions) -> None:
        self._subject = subject
        count = min(subject.affordable, len(theirs.rows))
        some = torch.from_numpy(np.random.default_rng(0).permutation(len(theirs.rows))[:count])  # theirs may be sorted
        self.rows = theirs.rows[some]
        self.theirs = torch.tensor(subject.classes)[theirs.labels[some]]
        self.truth = subject.labels(subject.splits.val)[self.rows]
        self._encoded = encoded_images(subject.splits)
        self._levels: dict[str, Tensor] = {}

    @property
    def geometries(self) -> list[str]:
        """Those that make a difference: none where the network takes images as they are stored."""
        subject = self._subject
        stored = subject.splits.val.size
        as_they_are = self._encoded is None and subject.config.data.resolution in (None, stored[0])
        return [] if as_they_are and stored[0] == stored[1] else list(GEOMETRIES)

    def levels(self, geometry: str) -> Tensor:
        """Levels 0..255, float32 [n, 3, h, w]."""
        if geometry not in self._levels:
            pixels = self._subject.splits.val
            if geometry == AS_TRAINED:
                found = pixels.batch(self.rows).float()
            else:
                found = torch.stack(
                    [GEOMETRIES[geometry](self._whole(row), self._subject.side) for row in self.rows.tolist()]
                )
            self._levels = {AS_TRAINED: self._levels.get(AS_TRAINED, found), geometry: found}
        return self._levels[geometry]

    def _whole(self, row: int) -> Tensor:
        if self._encoded is not None:
            return torch.from_numpy(decode(self._encoded[row])).float()
        return self._subject.splits.val.batch(torch.tensor([row]))[0].float()

    def agreement(self, way: _Way) -> float:
        """The share of images that are given their class."""
        return float((self.predicted(way) == self.theirs).float().mean())

    def predicted(self, way: _Way) -> Tensor:
        """The classes that the network predicts, int64 [n]."""
        subject = self._subject
        model: nn.Module = subject.model
        if way.train_batch:
            model = subject.copied_model().train()
        with torch.no_grad(), autocast(subject.config.execution, subject.device):
            batches = list(torch.split(self.levels(way.geometry).to(subject.device), way.train_batch or 64))
            if way.train_batch and len(batches) > 1 and len(batches[-1]) == 1:  # of which batch norm has no variance
                batches[-2:] = [torch.cat(batches[-2:])]
            return torch.cat([model(subject.shaped(way.values(levels))).argmax(1).cpu() for levels in batches])


def reproduced(subject: Subject, theirs: Predictions, say: Say) -> Finding:
    """The preparation that gives another pipeline's predictions most often.

    Values first, then geometry, then train mode, each with the best of what came before; then values again.
    """
    pipeline = _Pipeline(subject, theirs)
    values = list(candidates(subject))
    values += [replace(one, name=f"{one.name}, channels in the order BGR", swapped=True) for one in values]
    own = _Way(AS_TRAINED, values[0])
    scores = {own: pipeline.agreement(own)}

    def better(ways: list[_Way], what: str) -> _Way:
        say(f"predictions: {what}")
        scores.update({way: pipeline.agreement(way) for way in ways if way not in scores})
        return max(scores, key=lambda way: scores[way])

    best = better([replace(own, values=one) for one in values], "other normalizations and channel orders")
    geometry = better([replace(best, geometry=name) for name in pipeline.geometries], "other ways to resize and crop")
    if geometry.geometry != best.geometry:
        best = better([replace(geometry, values=one) for one in values], "the same with other normalizations")
    best = better([replace(best, train_batch=batch) for batch in BATCHES], "train mode")
    return _told(pipeline, own, best, scores)


def _told(pipeline: _Pipeline, own: _Way, best: _Way, scores: Mapping[_Way, float]) -> Finding:
    ours = float((pipeline.predicted(own) == pipeline.truth).float().mean())
    other = float((pipeline.theirs == pipeline.truth).float().mean())
    told = f"of {len(pipeline.rows):,} predictions {scores[own]:.1%} are those of images prepared as in training; "
    told += f"accuracy {other:.3f} there, {ours:.3f} here"
    if scores[own] >= AGREES or scores[best] < scores[own] + CLEAR:
        if scores[own] >= EXPLAINS:
            return Finding(Check(NAME, "ok", told))
        cure = "predict with the weights of this checkpoint, and compare again"
        return Finding(Check(NAME, "unknown", f"{told}; no other way to prepare them explains the rest", cure))
    told = f"{scores[best]:.1%} of the predictions are reproduced by: {best.words()}; {told}"
    second = sorted(scores.values())[-2]
    told += f"; the next best way gives {second:.1%}"
    cure = "prepare images as training does: trainables.training.inference.Inference, or python -m trainables.predict"
    status: CheckStatus = "problem" if scores[best] >= EXPLAINS else "warning"
    return Finding(Check(NAME, status, told, cure), max(ours - other, CLEAR), Weight.DEFECT)
