"""Random changes to training images, in batches, on the device that holds the pixels.

torchvision's transforms change one image at a time, on the CPU; these change a batch at once, every image in its own
way. All randomness is drawn from a generator of the CPU, in a number of draws that only the config and the shape
decide, and sent to the device without waiting for it: the CPU and the GPU see the same randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.augment.color import adjust_brightness_, adjust_contrast_, adjust_saturation_, shift_hue, whole_levels
from trainables.augment.geometry import (
    Outside,
    crop_and_flip,
    erase_squares,
    rescale_matrices,
    resized_crop_windows,
    warp,
)
from trainables.augment.normalize import Normalize
from trainables.augment.policy import Policy
from trainables.augment.to_device import send
from trainables.config import Augment, ConfigError

__all__ = ["Augmentation", "Batch"]

WIDEST = 4 / 3  # aspect ratio of a random resized crop at full strength (Szegedy et al. 2015)


@dataclass(frozen=True)
class Batch:
    """Images for the model, with a second set of labels where two images were mixed.

    The loss is `weight * loss(labels) + (1 - weight) * loss(other_labels)`, image by image.

    Attributes:
        images: float32 [b, 3, h, w], normalized, contiguous.
        labels: int64 [b].
        other_labels: int64 [b], or None where this batch was not mixed.
        weight: float32 [b], the share of `labels`; None likewise.
    """

    images: Tensor
    labels: Tensor
    other_labels: Tensor | None = None
    weight: Tensor | None = None

    def mixed(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """What `of` says of labels int64 [b], a number an image, mixed as the images are: [b]."""
        if self.other_labels is None or self.weight is None:
            return of(self.labels)
        return self.weight * of(self.labels) + (1 - self.weight) * of(self.other_labels)


class Augmentation:
    """What `Augment` asks for, then normalization; the pixels given are never changed.

    In this order: crop, flip and rotation, the policy, color jitter (brightness, contrast, saturation, hue),
    normalization, cutout, then mixup or cutmix. `strength` scales paddings, areas, degrees, magnitudes and changes of
    color; it is the probability that a square is cut out of an image or that a batch is mixed, twice that of a flip,
    and that of an alternating one in the epochs whose turn it is. At 0 the images are `normalize(pixels)` and nothing
    is drawn. The size of the images is not changed here: `first_scale` is the training loop's.

    Integer crops and flips copy pixels; with a rotation or a resized crop all moves are one bilinear warp.

    Args:
        config: which changes.
        mean: of each channel, pixels scaled to 0..1.
        std: likewise.
        num_classes: labels are 0..num_classes - 1.

    Raises:
        ConfigError: if `mean` and `std` are not three numbers each, `std` above 0.
    """

    def __init__(self, config: Augment, mean: Sequence[float], std: Sequence[float], num_classes: int) -> None:
        self._normalize = Normalize(mean, std)
        strength = config.strength
        self._strength = strength
        self._num_classes = num_classes
        self._padding = config.pad_crop * strength
        self._reflect = config.padding == "reflect"
        self._flip = strength * (1.0 if config.flip_order == "alternating" else 0.5) if config.flip else 0.0
        self._smallest = 1 - (1 - config.resized_crop) * strength
        self._widest = WIDEST**strength
        self._degrees = config.rotation * strength
        self._policy: Policy | None = None
        if config.policy != "none" and strength > 0:
            self._policy = Policy(config.policy, config.randaugment_ops, config.randaugment_magnitude, strength)
        self._jitter = config.color_jitter * strength
        self._hue = config.hue * strength
        self._cutout = config.cutout if strength > 0 else 0.0
        self._mixup = config.mixup if strength > 0 else 0.0
        self._cutmix = config.cutmix if strength > 0 else 0.0

    def windows(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Where to crop so many images before they are resized, for `Images.crops`; None if they are not cropped so.

        The width and height of each window, in shorter sides of its image, and its place among those where it fits,
        0..1 from the left and from the top: float [4, batch] on the CPU. Images that come as pixels are cropped by
        `__call__`; cut out of pixels that were reduced before, crops would be blurred.
        """
        if self._smallest == 1:
            return None
        draws = torch.rand(4, batch, generator=generator)
        return torch.cat([resized_crop_windows(draws, self._smallest, self._widest)[:2], draws[2:]])

    def __call__(
        self,
        pixels: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        *,
        cropped: bool = False,
        turn: Tensor | None = None,
    ) -> Batch:
        """The batch to train on.

        Args:
            pixels: uint8 [b, 3, h, w], any memory format, on any device; not changed.
            labels: int64 [b], on the same device.
            generator: of the CPU; draws depend on its state, the config and the shape alone.
            cropped: whether the pixels are of such `windows`, so that no other resized crop is taken.
            turn: bool [b] on the CPU, which images an alternating flip mirrors in this epoch; None otherwise.

        Raises:
            ConfigError: if shapes or types are others, or a label is no class (looked at only on the CPU: reading it
                elsewhere would wait for the device).
        """
        self._check(pixels)
        if labels.shape != pixels.shape[:1] or labels.dtype != torch.int64 or labels.device != pixels.device:
            rule = f"must be int64 [{len(pixels)}] on {pixels.device}"
            raise ConfigError.single("labels", f"{labels.dtype} {list(labels.shape)} on {labels.device}", rule)
        if labels.device.type == "cpu" and len(labels):
            low, high = (int(label) for label in labels.aminmax())
            if low < 0 or high >= self._num_classes:
                raise ConfigError.single("labels", f"{low}..{high}", f"must be 0..{self._num_classes - 1}")
        levels = self._move(pixels, generator, 1.0 if cropped else self._smallest, turn)
        if self._policy is not None:
            levels = self._policy(levels, generator)
        images = self._recolor(levels, generator)
        images = self._erase(self._normalize(images), generator)
        return self._mix(images, labels, generator)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [b, 3, h, w] as evaluation shows them: float32, contiguous, `(x / 255 - mean) / std`."""
        self._check(pixels)
        return self._normalize(pixels)

    @staticmethod
    def _check(pixels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ConfigError.single("pixels", f"{pixels.dtype} {list(pixels.shape)}", "must be uint8 [b, 3, h, w]")

    def _move(self, pixels: Tensor, generator: torch.Generator, smallest: float, turn: Tensor | None) -> Tensor:
        """Crop, flip, rotate; integer moves stay uint8, a warp gives levels to round (policy) or use (no policy)."""
        batch, _, height, width = pixels.shape
        warped = self._degrees > 0 or smallest < 1
        if not (warped or self._padding or self._flip):
            return pixels
        padding = round(self._padding * height), round(self._padding * width)
        top, left = (torch.randint(2 * side + 1, (batch,), generator=generator) for side in padding)
        flip = torch.rand(batch, generator=generator) < self._flip
        if turn is not None:
            flip &= turn
        if not warped:
            moves = send(torch.stack([top, left, flip]), pixels.device)
            mirrored = moves[2].bool() if self._flip else None
            return crop_and_flip(pixels, padding, moves[0], moves[1], mirrored, reflect=self._reflect)
        right, down = left - padding[1], top - padding[0]
        across, along = torch.ones(2, batch)
        if smallest < 1:
            window = resized_crop_windows(torch.rand(4, batch, generator=generator), smallest, self._widest)
            across, along, right, down = window[0], window[1], window[2] * width, window[3] * height
        angle = (torch.rand(batch, generator=generator) * 2 - 1) * math.radians(self._degrees)
        cos, sin, mirror = angle.cos(), angle.sin(), 1 - 2 * flip.float()
        # From an output pixel to its source: mirror, turn, then scale and move to the window.
        rows = [across * cos * mirror, -across * sin, right, along * sin * mirror, along * cos, down]
        matrices = send(rescale_matrices(torch.stack(rows, 1), height, width), pixels.device)
        inside_only = self._degrees == 0 and not self._padding
        outside: Outside = "border" if inside_only else "reflection" if self._reflect else "zeros"
        levels = warp(pixels.float(), matrices, "bilinear", outside)
        return whole_levels(levels.round_()).to(torch.uint8) if self._policy is not None else levels

    def _recolor(self, levels: Tensor, generator: torch.Generator) -> Tensor:
        if not (self._jitter or self._hue):
            return levels
        images = levels.to(torch.float32, memory_format=torch.contiguous_format)
        draws = torch.rand(4, len(images), generator=generator) * 2 - 1
        factors = send(torch.cat([1 + draws[:3] * self._jitter, draws[3:] * self._hue]), images.device)
        if self._jitter:
            adjust_brightness_(images, factors[0])
            adjust_contrast_(images, factors[1])
            adjust_saturation_(images, factors[2])
        return shift_hue(images, factors[3]) if self._hue else images

    def _erase(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self._cutout:
            return images
        batch, _, height, width = images.shape
        side = round(self._cutout * min(height, width))
        corners = torch.stack([torch.randint(length, (batch,), generator=generator) for length in (height, width)], 1)
        spared = torch.rand(batch, generator=generator) >= self._strength
        corners = (corners - side // 2).masked_fill(spared.unsqueeze(1), max(height, width))  # beyond the image
        return erase_squares(images, side, send(corners, images.device))

    def _mix(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Batch:
        """Mixup (Zhang et al. 2017) or cutmix (Yun et al. 2019); one lambda and one order a batch, as in their code."""
        if not (self._mixup or self._cutmix):
            return Batch(images, labels)
        batch, _, height, width = images.shape
        applied, which, *center = torch.rand(4, generator=generator).tolist()
        seed = int(torch.randint(2**62, (), generator=generator))
        order = torch.randperm(batch, generator=generator)
        if applied >= self._strength:
            return Batch(images, labels)
        cut = self._cutmix > 0 and (self._mixup == 0 or which < 0.5)
        alpha = self._cutmix if cut else self._mixup
        # torch's Beta takes no generator, and its sampler would use up a number of draws that varies.
        share = float(np.random.default_rng(seed).beta(alpha, alpha))
        partner = send(order, images.device)
        if cut:
            boxes = []
            for length, middle in zip((height, width), center, strict=True):
                half = int(length * math.sqrt(1 - share)) // 2
                middle = int(middle * length)
                boxes.append(slice(max(middle - half, 0), min(middle + half, length)))
            box = images[:, :, boxes[0], boxes[1]]
            box.copy_(box.index_select(0, partner))
            share = 1 - box.shape[2] * box.shape[3] / (height * width)
        else:
            images.lerp_(images.index_select(0, partner), 1 - share)
        weight = torch.full((batch,), share, device=images.device)
        return Batch(images, labels, labels.index_select(0, partner), weight)
