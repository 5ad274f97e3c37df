"""RandAugment (Cubuk et al. 2019) and TrivialAugment (Mueller and Hutter 2021, the wide space), on batches.

torchvision has both for one image at a time; here the images of a batch are grouped by the operation drawn for them and
each group is changed at once. Operations, ranges, nearest interpolation, black outside and the rounding of levels are
those of torchvision.transforms.v2's RandAugment and TrivialAugmentWide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainables.augment.color import adjust_brightness_, adjust_contrast_, adjust_saturation_, whole_levels
from trainables.augment.geometry import rescale_matrices, warp
from trainables.augment.to_device import send

__all__ = ["BINS", "OPERATIONS", "Operation", "Policy", "apply_operations", "parameter_table"]

BINS = 31  # magnitudes of each operation: the papers' 0..30

PolicyName = Literal["randaugment", "trivialaugment"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""uint8 [g, 3, h, w] and its parameters, float [g, 6], to uint8 or float levels of that shape."""


def _affine(pixels: Tensor, parameters: Tensor) -> Tensor:
    return warp(pixels.float(), parameters, "nearest", "zeros")


def _brightness(pixels: Tensor, parameters: Tensor) -> Tensor:
    return adjust_brightness_(pixels.float(), parameters[:, 0])


def _color(pixels: Tensor, parameters: Tensor) -> Tensor:
    return adjust_saturation_(pixels.float(), parameters[:, 0])


def _contrast(pixels: Tensor, parameters: Tensor) -> Tensor:
    return adjust_contrast_(pixels.float(), parameters[:, 0])


def _sharpness(pixels: Tensor, parameters: Tensor) -> Tensor:
    if min(pixels.shape[2:]) <= 2:
        return pixels
    images = pixels.float()
    inner = images[..., 1:-1, 1:-1]
    # Convolution with (1 1 1, 1 5 1, 1 1 1) / 13. As a convolution it would be slower on the CPU and TF32 on a GPU.
    triples = (images[:, :, :-2] + images[:, :, 1:-1]).add_(images[:, :, 2:])
    blurred = (triples[..., :-2] + triples[..., 1:-1]).add_(triples[..., 2:]).add_(inner, alpha=4).div_(13).round_()
    inner.add_(blurred.sub_(inner).mul_(1 - parameters[:, 0].view(-1, 1, 1, 1)))
    return images.clamp_(0, 255)


def _posterize(pixels: Tensor, parameters: Tensor) -> Tensor:
    return pixels & parameters[:, 0].to(torch.uint8).view(-1, 1, 1, 1)


def _solarize(pixels: Tensor, parameters: Tensor) -> Tensor:
    return pixels ^ (pixels >= parameters[:, 0].view(-1, 1, 1, 1)).to(torch.uint8).mul_(255)


def _autocontrast(pixels: Tensor, parameters: Tensor) -> Tensor:
    images = pixels.float()
    darkest, brightest = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = brightest == darkest
    scale = (brightest - darkest).mul_(1 / 255).masked_fill_(flat, 1)
    return images.sub_(darkest.masked_fill_(flat, 0)).div_(scale).clamp_(0, 255)


def _equalize(pixels: Tensor, parameters: Tensor) -> Tensor:
    levels = pixels.flatten(2).long()
    histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.int32, device=pixels.device)
    histogram.scatter_add_(2, levels, torch.ones((), dtype=torch.int32, device=pixels.device).expand_as(levels))
    at_brightest = histogram.gather(2, levels.amax(2, keepdim=True))
    # Pillow's rule: 255 equal steps over the pixels below the brightest level; a channel with fewer than 255 stays.
    step = (levels.shape[2] - at_brightest).div_(255, rounding_mode="floor")
    darker = histogram.cumsum(2, dtype=torch.int32) - histogram
    table = (darker + step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    same = torch.arange(256, dtype=torch.int32, device=pixels.device)
    return torch.where(step > 0, table, same).to(torch.uint8).gather(2, levels).view_as(pixels)


@dataclass(frozen=True)
class Operation:
    """One operation of the policies.

    Attributes:
        name: torchvision's.
        kernel: changes a group of images; None leaves them.
        parameters: the kernel's, at most 6, from magnitude, height and width; None where there is no magnitude.
        signed: whether the magnitude's sign is drawn.
    """

    name: str
    kernel: Kernel | None
    parameters: Callable[[float, int, int], tuple[float, ...]] | None = None
    signed: bool = False


def _rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos, -sin, 0, sin, cos, 0


def _factor(magnitude: float, height: int, width: int) -> tuple[float, ...]:
    return (1 + magnitude,)


# Operations that share a kernel stand together, as one group. Matrices lead from an output pixel to its source; shears
# leave the top edge or the left one where it is.
OPERATIONS = (
    Operation("ShearX", _affine, lambda m, height, width: (1, m, m * height / 2, 0, 1, 0), signed=True),
    Operation("ShearY", _affine, lambda m, height, width: (1, 0, 0, m, 1, m * width / 2), signed=True),
    Operation("TranslateX", _affine, lambda m, height, width: (1, 0, -int(m), 0, 1, 0), signed=True),
    Operation("TranslateY", _affine, lambda m, height, width: (1, 0, 0, 0, 1, -int(m)), signed=True),
    Operation("Rotate", _affine, _rotation, signed=True),
    Operation("Brightness", _brightness, _factor, signed=True),
    Operation("Color", _color, _factor, signed=True),
    Operation("Contrast", _contrast, _factor, signed=True),
    Operation("Sharpness", _sharpness, _factor, signed=True),
    Operation("Posterize", _posterize, lambda m, height, width: (256 - 2 ** (8 - round(8 - m)),)),
    Operation("Solarize", _solarize, lambda m, height, width: (256 - m,)),
    Operation("AutoContrast", _autocontrast),
    Operation("Equalize", _equalize),
    Operation("Identity", None),
)
IDENTITY = len(OPERATIONS) - 1
HAS_MAGNITUDE = torch.tensor([operation.parameters is not None for operation in OPERATIONS])
GROUPS = [
    (kernel, [index for index, _ in members])
    for kernel, members in itertools.groupby(enumerate(OPERATIONS), key=lambda member: member[1].kernel)
]


def _magnitudes(policy: PolicyName, height: int, width: int) -> dict[str, Tensor]:
    """`BINS` magnitudes of each operation, float64; posterize: bits dropped, solarize: levels inverted."""
    if policy == "randaugment":
        shear, across, down, degrees, blend, bits = 0.3, 150 / 331 * width, 150 / 331 * height, 30.0, 0.9, 4
    else:
        shear, across, down, degrees, blend, bits = 0.99, 32.0, 32.0, 135.0, 0.99, 6
    largest = {"ShearX": shear, "ShearY": shear, "TranslateX": across, "TranslateY": down, "Rotate": degrees}
    largest |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), blend) | {"Posterize": bits}
    magnitudes = {name: torch.linspace(0, most, BINS).double() for name, most in largest.items()}
    # Every second threshold is a whole level, where float32's rounding decides: count from white, as torchvision does.
    return magnitudes | {"Solarize": 256 - 255 * torch.linspace(1, 0, BINS).double()}


def parameter_table(policy: PolicyName, height: int, width: int, strength: float) -> Tensor:
    """What the kernels take, float32 [operation, bin, sign (plus, minus), 6], with magnitudes times `strength`."""
    magnitudes = _magnitudes(policy, height, width)
    table = torch.zeros(len(OPERATIONS), BINS, 2, 6, dtype=torch.float64)
    for index, operation in enumerate(OPERATIONS):
        if operation.parameters is None:
            continue
        scaled = (magnitudes[operation.name] * strength).tolist()
        for sign, signed in enumerate((scaled, [-m for m in scaled] if operation.signed else scaled)):
            parameters = torch.tensor([operation.parameters(m, height, width) for m in signed], dtype=torch.float64)
            table[index, :, sign, : parameters.shape[1]] = parameters
        if operation.kernel is _affine:
            table[index] = rescale_matrices(table[index].float(), height, width)
    return table.float()


def apply_operations(pixels: Tensor, operations: Tensor, parameters: Tensor) -> Tensor:
    """Apply to each image the operations drawn for it, one round after the other.

    Args:
        pixels: uint8 [b, 3, h, w], any memory format; not changed.
        operations: int64 [rounds, b] on the CPU, indices into `OPERATIONS`.
        parameters: float32 [rounds, b, 6] on the CPU, entries of `parameter_table`.

    Returns:
        uint8 [b, 3, h, w], contiguous.
    """
    # Each round sorts the images by operation, so that a group is a slice, and the last move brings them back. Sizes of
    # groups are known here, on the CPU: nothing waits for the device.
    order = torch.arange(operations.shape[1])
    moves, sorted_parameters = [], []
    for drawn, own in zip(operations, parameters, strict=True):
        moves.append(drawn[order].argsort(stable=True))
        order = order[moves[-1]]
        sorted_parameters.append(own[order])
    moves.append(order.argsort())
    device_moves = send(torch.stack(moves), pixels.device)
    device_parameters = send(torch.stack(sorted_parameters), pixels.device)
    for drawn, move, own in zip(operations, device_moves, device_parameters, strict=False):
        pixels = pixels.index_select(0, move)
        counts = drawn.bincount(minlength=len(OPERATIONS)).tolist()
        stop = 0
        for kernel, members in GROUPS:
            start, stop = stop, stop + sum(counts[member] for member in members)
            if kernel is not None and start < stop:
                group = pixels[start:stop]
                group.copy_(whole_levels(kernel(group, own[start:stop])))
    return pixels.index_select(0, device_moves[-1])


class Policy:
    """RandAugment or TrivialAugment with its magnitudes times `strength`.

    Operations without a magnitude (autocontrast, equalize) are applied with probability `strength` where drawn.

    Args:
        name: which of the two.
        rounds: operations per image; TrivialAugment has one.
        magnitude: RandAugment's, 0..30; TrivialAugment draws it.
        strength: 0..1.
    """

    def __init__(self, name: PolicyName, rounds: int, magnitude: int, strength: float) -> None:
        self._name: PolicyName = name
        self._rounds = rounds if name == "randaugment" else 1
        self._magnitude = magnitude if name == "randaugment" else None
        self._strength = strength
        self._tables: dict[tuple[int, int], Tensor] = {}

    def draw(self, batch: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Operations and parameters for `batch` images, as `apply_operations` takes them."""
        shape = (self._rounds, batch)
        operations = torch.randint(len(OPERATIONS), shape, generator=generator)
        signs = torch.randint(2, shape, generator=generator)
        if self._magnitude is None:
            bins = torch.randint(BINS, shape, generator=generator)
        else:
            bins = torch.full(shape, self._magnitude)
        if self._strength < 1:
            spared = torch.rand(shape, generator=generator) >= self._strength
            operations[spared & ~HAS_MAGNITUDE[operations]] = IDENTITY
        if (height, width) not in self._tables:
            self._tables[height, width] = parameter_table(self._name, height, width, self._strength)
        return operations, self._tables[height, width][operations, bins, signs]

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [b, 3, h, w] with the policy applied; `pixels` is not changed."""
        return apply_operations(pixels, *self.draw(len(pixels), pixels.shape[2], pixels.shape[3], generator))
