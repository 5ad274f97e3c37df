"""RandAugment and TrivialAugment: every operation against torchvision's, then what is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from trainables.augment.policy import BINS, OPERATIONS, Policy, PolicyName, apply_operations, parameter_table

pytestmark = pytest.mark.numeric

INDEX = {operation.name: index for index, operation in enumerate(OPERATIONS)}
REFERENCE = {"randaugment": v2.RandAugment(), "trivialaugment": v2.TrivialAugmentWide()}
POLICIES: tuple[PolicyName, ...] = ("randaugment", "trivialaugment")


def _images(height: int = 32, width: int = 32) -> Tensor:
    """uint8 [10, 3, h, w]: noise, smooth, dark, of few levels, and flat images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (10, 3, height, width), dtype=torch.uint8, generator=generator)
    images[2] = torch.arange(width).mul(7).to(torch.uint8)
    images[3] = (images[3] // 8) + 40
    images[4] = images[4] // 64 * 50
    images[5], images[6] = 0, 200
    images[7, 0] = 9
    return images


def _apply(images: Tensor, names: list[str], parameters: Tensor) -> Tensor:
    """Each image by all operations in `names`, one after the other; parameters float [rounds, 6]."""
    operations = torch.tensor([INDEX[name] for name in names]).view(-1, 1).expand(-1, len(images))
    return apply_operations(images, operations, parameters.unsqueeze(1).expand(-1, len(images), -1))


def test_operations_are_torchvisions() -> None:
    for reference in REFERENCE.values():
        signed = {name: signed for name, (_, signed) in reference._AUGMENTATION_SPACE.items()}
        assert signed == {operation.name: operation.signed for operation in OPERATIONS}


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (8, 8)], ids=str)
@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize("policy", POLICIES)
def test_operation_equals_torchvisions(policy: PolicyName, name: str, size: tuple[int, int]) -> None:
    reference, images = REFERENCE[policy], _images(*size)
    table = parameter_table(policy, *size, strength=1.0)
    magnitudes_of, signed = reference._AUGMENTATION_SPACE[name]
    magnitudes = magnitudes_of(BINS, *size)
    levels = range(0, BINS, 3 if size == (32, 32) else 10) if magnitudes is not None else range(1)
    choices = [(level, sign) for level in levels for sign in ((0, 1) if signed else (0,))]
    parameters = torch.stack([table[INDEX[name], level, sign] for level, sign in choices])
    operations = torch.full((1, len(choices) * len(images)), INDEX[name])
    repeated = parameters.repeat_interleave(len(images), 0).unsqueeze(0)
    results = apply_operations(images.repeat(len(choices), 1, 1, 1), operations, repeated)
    for (level, sign), result in zip(choices, results.view(len(choices), *images.shape), strict=True):
        magnitude = 0.0 if magnitudes is None else float(magnitudes[level]) * (1 - 2 * sign)
        expected = reference._apply_image_or_video_transform(
            images, name, magnitude, interpolation=reference.interpolation, fill=reference._fill
        )
        difference = (result.int() - expected.int()).abs()
        if name.startswith("Shear"):  # of a pixel half-way between two, rounding decides
            assert (difference > 0).float().mean().item() < 0.02
        elif name in ("Color", "Contrast", "Sharpness"):  # sums just below a level are cut off
            assert int(difference.max()) <= 1
        else:
            assert int(difference.max()) == 0


def test_images_get_their_own_operations_in_order() -> None:
    images = torch.cat([_images()] * 4)
    policy = Policy("randaugment", rounds=3, magnitude=14, strength=1.0)
    operations, parameters = policy.draw(40, 32, 32, torch.Generator().manual_seed(0))
    assert operations.shape == (3, 40)
    result = apply_operations(images, operations, parameters)
    for index in range(40):
        names = [OPERATIONS[int(operation)].name for operation in operations[:, index]]
        alone = _apply(images[index : index + 1], names, parameters[:, index])
        assert torch.equal(result[index : index + 1], alone)


@pytest.mark.parametrize("policy", POLICIES)
def test_operations_and_signs_are_as_likely(policy: PolicyName) -> None:
    operations, parameters = Policy(policy, 2, 9, 1.0).draw(14_000, 32, 32, torch.Generator().manual_seed(0))
    assert len(operations) == (2 if policy == "randaugment" else 1)
    for drawn in operations:
        counts = drawn.bincount(minlength=len(OPERATIONS))  # 1,000 each, standard deviation 30
        assert int(counts.min()) > 870
        assert int(counts.max()) < 1130
    factors = parameters[operations == INDEX["Brightness"]][:, 0] - 1
    assert (factors < 0).float().mean().item() == pytest.approx(0.5, abs=0.07)
    if policy == "randaugment":
        torch.testing.assert_close(factors.abs(), torch.full_like(factors, 0.9 * 9 / 30))
    else:
        bins = (factors.abs() / 0.99 * 30).round().long().bincount()
        assert len(bins) == BINS
        assert int(bins.min()) > 8  # 32 expected


@pytest.mark.parametrize("policy", POLICIES)
def test_strength_scales_magnitudes(policy: PolicyName) -> None:
    half, full = (parameter_table(policy, 32, 32, strength) for strength in (0.5, 1.0))
    for name in ("ShearX", "ShearY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness", "Solarize"):
        atol = 0.501 if name == "Solarize" else 1e-4  # starts from 256, no level, where full strength starts from 255
        torch.testing.assert_close(half[INDEX[name], ::2], full[INDEX[name], :16], rtol=0, atol=atol)
    moved = (half[INDEX["TranslateX"], 30, :, 2] * 16).tolist()
    assert moved == ([-7, 7] if policy == "randaugment" else [-16, 16])
    masks = half[INDEX["Posterize"], 30, 0, 0].item()
    assert masks == (0b11111100 if policy == "randaugment" else 0b11111000)


def test_strength_is_the_probability_of_operations_without_magnitude() -> None:
    operations, _ = Policy("randaugment", 1, 9, 0.25).draw(14_000, 8, 8, torch.Generator().manual_seed(0))
    counts = operations[0].bincount(minlength=len(OPERATIONS))
    for name in ("AutoContrast", "Equalize"):
        assert int(counts[INDEX[name]]) == pytest.approx(250, abs=70)
    assert int(counts[INDEX["Identity"]]) == pytest.approx(2500, abs=200)
    assert int(counts[INDEX["Solarize"]]) == pytest.approx(1000, abs=130)
