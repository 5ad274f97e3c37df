"""Augmentation as the loop uses it: identity, randomness, labels, and any config on any shape."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from trainables.augment.batch import Augmentation, Batch
from trainables.config import Augment, ConfigError

pytestmark = pytest.mark.numeric

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
EVERYTHING: dict[str, object] = {
    "pad_crop": 0.125, "flip": True, "color_jitter": 0.4, "hue": 0.1, "rotation": 20.0, "policy": "randaugment",
    "cutout": 0.5, "mixup": 0.2, "cutmix": 1.0,
}  # fmt: skip
EACH: list[dict[str, object]] = [
    {"pad_crop": 0.125}, {"flip": True}, {"resized_crop": 0.3}, {"rotation": 30.0}, {"color_jitter": 0.4}, {"hue": 0.2},
    {"policy": "randaugment"}, {"policy": "trivialaugment"}, {"cutout": 0.5}, {"mixup": 0.2}, {"cutmix": 1.0},
    {"pad_crop": 0.125, "padding": "reflect"}, EVERYTHING,
]  # fmt: skip


def _name(changes: dict[str, object]) -> str:
    return "everything" if changes is EVERYTHING else "-".join(f"{key}={value}" for key, value in changes.items())


def _augmentation(**changes: object) -> Augmentation:
    return Augmentation(Augment.model_validate(changes), MEAN, STD, num_classes=10_000)


def _plain(**changes: object) -> Augmentation:
    """Leaves levels as they are: mean 0, std 1/255."""
    return Augmentation(Augment.model_validate(changes), (0, 0, 0), (1 / 255, 1 / 255, 1 / 255), num_classes=10_000)


def _noise(batch: int = 64, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def _run(augmentation: Augmentation, pixels: Tensor, seed: int = 0) -> Batch:
    return augmentation(pixels, torch.arange(len(pixels)), torch.Generator().manual_seed(seed))


def _coordinates(batch: int, side: int) -> Tensor:
    """Images that show their own geometry: channel 0 is the row plus 100, channel 1 the column plus 100."""
    place = torch.arange(side, dtype=torch.uint8) + 100
    rows, columns = place.view(-1, 1).expand(side, side), place.expand(side, side)
    return torch.stack([rows, columns, rows]).expand(batch, 3, side, side).contiguous()


def _assert_same(one: Batch, other: Batch) -> None:
    for name in ("images", "labels", "other_labels", "weight"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None)
        assert first is None or torch.equal(first, second)


class TestContract:
    def test_strength_zero_is_normalization_and_draws_nothing(self) -> None:
        augmentation, pixels = _augmentation(**EVERYTHING, strength=0.0), _noise()
        generator = torch.Generator().manual_seed(3)
        before = generator.get_state()
        batch = augmentation(pixels, torch.arange(64), generator)
        assert torch.equal(batch.images, augmentation.normalize(pixels))
        assert torch.equal(batch.labels, torch.arange(64))
        assert batch.other_labels is None
        assert batch.weight is None
        assert torch.equal(generator.get_state(), before)

    def test_normalize_is_torchvisions(self) -> None:
        pixels = _noise()
        expected = reference.normalize(pixels.float() / 255, list(MEAN), list(STD))
        torch.testing.assert_close(_augmentation().normalize(pixels), expected, rtol=1e-5, atol=2e-6)

    @pytest.mark.parametrize("changes", EACH, ids=_name)
    def test_same_state_same_batch_whatever_the_memory_format(self, changes: dict[str, object]) -> None:
        augmentation, pixels = _augmentation(**changes), _noise()
        first = _run(augmentation, pixels)
        _assert_same(first, _run(augmentation, pixels))
        _assert_same(first, _run(_augmentation(**changes), pixels.contiguous(memory_format=torch.channels_last)))
        assert first.images.is_contiguous()
        assert not torch.equal(first.images, _run(augmentation, pixels, seed=1).images)

    @pytest.mark.parametrize("strength", [0.4, 1.0])
    def test_draws_do_not_depend_on_pixels_and_pixels_stay(self, strength: float) -> None:
        augmentation, states = _augmentation(**EVERYTHING, strength=strength), []
        for pixels in (_noise(), torch.zeros(64, 3, 32, 32, dtype=torch.uint8)):
            original, generator = pixels.clone(), torch.Generator().manual_seed(0)
            augmentation(pixels, torch.arange(64), generator)
            states.append(generator.get_state())
            assert torch.equal(pixels, original)
        assert torch.equal(*states)

    @pytest.mark.parametrize("changes", EACH, ids=_name)
    def test_nothing_reads_what_is_on_the_device(self, changes: dict[str, object]) -> None:
        """On a GPU reading would wait for it; the meta device holds no data, so reading there is an error."""
        pixels, labels = _noise().to("meta"), torch.arange(64, device="meta")
        batch = _augmentation(**changes)(pixels, labels, torch.Generator().manual_seed(0))
        assert batch.images.device.type == "meta"

    def test_images_of_a_batch_change_independently(self) -> None:
        pixels = _noise(1).expand(256, -1, -1, -1)
        for changes in EACH[2:9]:
            images = _run(_plain(**changes), pixels).images
            assert len(torch.unique(images.flatten(1), dim=0)) > (40 if "policy" not in changes else 20)

    def test_what_is_no_statistic_no_image_and_no_label_is_refused(self) -> None:
        for mean, std, path in (((0, 0), (1, 1, 1), "mean"), ((0, 0, 0), (1, 0, 1), "std")):
            with pytest.raises(ConfigError, match=f"data.normalize.{path}: must be three finite numbers"):
                Augmentation(Augment(), mean, std, 10)
        augmentation, labels = Augmentation(Augment(), MEAN, STD, 10), torch.zeros(2, dtype=torch.int64)
        for pixels in (torch.rand(2, 3, 8, 8), _noise(2)[:, :1], _noise(2)[0]):
            with pytest.raises(ConfigError, match=r"pixels: must be uint8 \[b, 3, h, w\]"):
                augmentation(pixels, labels, torch.Generator())
        for wrong in (labels.int(), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 10])):
            with pytest.raises(ConfigError, match="labels: must be"):
                augmentation(_noise(2), wrong, torch.Generator())


class TestMoves:
    def test_every_crop_is_a_slice_of_the_padded_image_and_all_are_as_likely(self) -> None:
        pixels, padding = _noise(1, 8, 8), 2
        images = _run(_plain(pad_crop=0.25, flip=True), pixels.expand(10_000, -1, -1, -1)).images
        padded = torch.nn.functional.pad(pixels[0].float(), [padding] * 4)
        crops = [padded[:, top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
        candidates = torch.stack([view for crop in crops for view in (crop, crop.flip(2))])
        matches = (images.unsqueeze(1) == candidates.unsqueeze(0)).all(dim=(2, 3, 4))
        assert bool((matches.sum(1) == 1).all())
        counts = matches.sum(0)  # 50 candidates, 200 expected of each, standard deviation 14
        assert int(counts.min()) > 140
        assert int(counts.max()) < 260

    @pytest.mark.parametrize(("strength", "padding"), [(1.0, 4), (0.5, 2), (0.05, 0)])
    def test_strength_scales_padding(self, strength: float, padding: int) -> None:
        images = _run(_plain(pad_crop=0.125, strength=strength), _coordinates(400, 32)).images
        shifts = images[:, :2, 16, 16] - 116
        assert shifts.min().item() == -padding
        assert shifts.max().item() == padding

    @pytest.mark.parametrize("strength", [1.0, 0.4])
    @pytest.mark.parametrize("warp", [{}, {"rotation": 1.0}, {"resized_crop": 0.9}], ids=str)
    def test_flip_rate(self, warp: dict[str, float], strength: float) -> None:
        images = _run(_plain(flip=True, strength=strength, **warp), _coordinates(4000, 8)).images[:, :, 1:-1, 1:-1]
        flipped = images[:, 1, 0, 0] > images[:, 1, 0, 5]
        assert flipped.float().mean().item() == pytest.approx(0.5 * strength, abs=0.035)  # over 4 standard deviations

    def test_rotation_is_uniform_within_its_degrees(self) -> None:
        images = _run(_plain(rotation=40.0, strength=0.5), _coordinates(2000, 32)).images
        center = images[:, 1, 12:20, 12:20]  # the column's gradient turns with the image
        across, down = center[:, 4, 5] - center[:, 4, 4], center[:, 5, 4] - center[:, 4, 4]
        degrees = torch.rad2deg(torch.atan2(down, across))
        assert degrees.abs().max().item() == pytest.approx(20, abs=0.2)
        assert degrees.mean().item() == pytest.approx(0, abs=1.1)
        assert degrees.std().item() == pytest.approx(20 / math.sqrt(3), rel=0.06)

    def test_resized_crop_is_a_window_with_uniform_area(self) -> None:
        smallest, strength, side = 0.2, 0.75, 32
        images = _run(_plain(resized_crop=smallest, strength=strength), _coordinates(4000, side)).images
        assert images.min().item() >= 100  # no black: windows lie inside
        along = images[:, 0, 17, 16] - images[:, 0, 16, 16]
        across = images[:, 1, 16, 17] - images[:, 1, 16, 16]
        area, low = along * across, 1 - (1 - smallest) * strength
        assert area.min().item() == pytest.approx(low, abs=0.01)
        assert area.max().item() == pytest.approx(1, abs=0.01)
        assert area.mean().item() == pytest.approx((1 + low) / 2, abs=0.015)
        assert (across / along).log().abs().max().item() <= strength * math.log(4 / 3) + 1e-3
        middle = images[:, :2, 15:17, 15:17].mean((2, 3)) - 115.5
        torch.testing.assert_close(middle.mean(0), torch.zeros(2), rtol=0, atol=0.25)

    def test_windows_are_those_of_a_resized_crop_anywhere_in_the_image(self) -> None:
        smallest, strength = 0.2, 0.75
        windows = _plain(resized_crop=smallest, strength=strength).windows(4000, torch.Generator().manual_seed(0))
        assert windows is not None
        width, height, *place = windows
        area, low = width * height, 1 - (1 - smallest) * strength
        assert (area.min().item(), area.max().item()) == pytest.approx((low, 1), abs=0.01)
        assert (width / height).log().abs().max().item() <= strength * math.log(4 / 3) + 1e-3
        assert torch.stack([width, height]).max().item() <= 1
        for part in place:
            assert (part.min().item(), part.max().item(), part.std().item()) == pytest.approx(
                (0, 1, 12**-0.5), abs=0.01
            )
        generator = torch.Generator().manual_seed(0)
        before = generator.get_state()
        assert _plain(flip=True).windows(8, generator) is None
        assert torch.equal(generator.get_state(), before)

    def test_what_was_cropped_before_is_not_cropped_again(self) -> None:
        pixels, labels = _coordinates(16, 16), torch.arange(16)
        cropping, flipping = _plain(resized_crop=0.2, flip=True), _plain(flip=True)
        cropped = cropping(pixels, labels, torch.Generator().manual_seed(0), cropped=True)
        _assert_same(cropped, flipping(pixels, labels, torch.Generator().manual_seed(0)))

    def test_padding_moves_rotated_images_too(self) -> None:
        images = _run(_plain(pad_crop=0.125, rotation=1e-6), _coordinates(500, 32)).images
        shifts = images[:, :2, 16, 16] - 116
        torch.testing.assert_close(shifts, shifts.round(), rtol=0, atol=1e-3)
        assert shifts.amax(0).round().tolist() == [4, 4]
        assert shifts.amin(0).round().tolist() == [-4, -4]


class TestColors:
    def test_brightness_is_uniform_within_its_range(self) -> None:
        gray = torch.full((4000, 3, 4, 4), 100, dtype=torch.uint8)
        factors = _run(_plain(color_jitter=0.8, strength=0.5), gray).images.mean((1, 2, 3)) / 100
        assert factors.min().item() == pytest.approx(0.6, abs=0.02)
        assert factors.max().item() == pytest.approx(1.4, abs=0.02)
        assert factors.mean().item() == pytest.approx(1, abs=0.02)

    def test_hue_is_uniform_within_its_range(self) -> None:
        red = torch.tensor([200, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(4000, 3, 4, 4)
        images = _run(_plain(hue=0.2, strength=0.5), red).images[:, :, 0, 0]
        torch.testing.assert_close(images[:, 0], torch.full((4000,), 200.0))  # less than a sixth of the circle
        assert bool((images[:, 1:].amin(1) == 0).all())
        shifts = (images[:, 1] - images[:, 2]) / 200 / 6
        assert shifts.abs().max().item() == pytest.approx(0.1, abs=2e-3)
        assert shifts.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


class TestErasing:
    @pytest.mark.parametrize(("strength", "side"), [(1.0, 32), (0.3, 32), (1.0, 8)])
    def test_squares_are_mean_and_uniform(self, strength: float, side: int) -> None:
        augmentation = _augmentation(cutout=0.5, strength=strength)
        pixels = torch.full((4000, 3, side, side), 255, dtype=torch.uint8)
        erased = _run(augmentation, pixels).images == 0
        assert torch.equal(erased.any(1), erased.all(1))
        area = erased[:, 0].sum((1, 2))
        assert (area > 0).float().mean().item() == pytest.approx(strength, abs=0.035)
        cut = erased[area > 0, 0]
        rows, columns = cut.any(2).sum(1), cut.any(1).sum(1)
        assert torch.equal(rows * columns, area[area > 0])  # a rectangle, clipped at the border
        assert (rows.max().item(), columns.max().item()) == (side // 2, side // 2)
        # The center is uniform: a pixel is erased as often as its window of possible centers is long.
        reach = torch.arange(side)
        possible = ((reach + side // 4).clamp(max=side - 1) - (reach - side // 4 + 1).clamp(min=0) + 1) / side
        torch.testing.assert_close(cut.float().mean(0), possible.view(-1, 1) * possible, rtol=0, atol=0.06)

    def test_the_shorter_side_sizes_the_square(self) -> None:
        pixels = torch.full((500, 3, 8, 20), 255, dtype=torch.uint8)
        erased = (_run(_augmentation(cutout=0.5), pixels).images == 0)[:, 0]
        assert int(erased.any(2).sum(1).max()) == int(erased.any(1).sum(1).max()) == 4


def _fraction(top: float = 1.0) -> st.SearchStrategy[float]:
    return st.one_of(st.just(0.0), st.floats(0, top))


CROPS = st.one_of(
    st.fixed_dictionaries({"pad_crop": st.floats(0, 0.5)}),
    st.fixed_dictionaries({"resized_crop": st.floats(0, 1, exclude_min=True)}),
)
CONFIGS = st.tuples(
    CROPS,
    st.fixed_dictionaries(
        {
            "strength": st.floats(0, 1), "flip": st.booleans(), "color_jitter": _fraction(), "hue": _fraction(0.5),
            "rotation": _fraction(180), "policy": st.sampled_from(["none", "randaugment", "trivialaugment"]),
            "randaugment_ops": st.integers(1, 8), "randaugment_magnitude": st.integers(0, 30), "cutout": _fraction(),
            "mixup": _fraction(10), "cutmix": _fraction(10),
        }
    ),
).map(lambda parts: parts[0] | parts[1])  # fmt: skip


@given(
    changes=CONFIGS,
    batch=st.integers(1, 9),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_any_config_on_any_shape(changes: dict[str, object], batch: int, height: int, width: int, seed: int) -> None:
    pixels = _noise(batch, height, width, seed)
    result = _run(_augmentation(**changes), pixels, seed)
    assert result.images.shape == pixels.shape
    assert result.images.dtype == torch.float32
    assert result.images.is_contiguous()
    low, high = (_augmentation().normalize(torch.full_like(pixels, level)) for level in (0, 255))
    assert bool(((result.images >= low - 1e-4) & (result.images <= high + 1e-4)).all())  # also says: finite
    assert (result.weight is None) == (result.other_labels is None)
    if result.weight is not None and result.other_labels is not None:
        assert result.weight.shape == result.other_labels.shape == (batch,)
        assert result.weight.dtype == torch.float32
        assert bool(((result.weight >= 0) & (result.weight <= 1)).all())
        assert torch.equal(result.other_labels.sort().values, torch.arange(batch))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("changes", EACH, ids=_name)
def test_gpu_sees_the_same_randomness_and_never_waits(changes: dict[str, object]) -> None:
    augmentation, pixels = _augmentation(**changes), _noise()
    on_cpu = _run(augmentation, pixels)
    labels, on_gpu = torch.arange(64, device="cuda"), pixels.cuda()
    generator = torch.Generator().manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = augmentation(on_gpu, labels, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Interpolation may fall on the other side of a level or of a tie between two pixels.
    differing = (batch.images.cpu() - on_cpu.images).abs() > 0.05
    assert differing.float().mean().item() < 0.01
    for name in ("other_labels", "weight"):
        ours, theirs = getattr(batch, name), getattr(on_cpu, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours.cpu(), theirs)
