"""Copies are found whatever was done to them, and images that are merely alike are told apart."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tests.trainables.image_files import picture
from trainables.data.builtin import Digits, Synthetic
from trainables.data.likeness import DIMENSIONS, SMALLEST, descriptors, groups, near_pairs

Change = Callable[[Image.Image], Image.Image]


def jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")

    return change


def resized(factor: float, by: Image.Resampling) -> Change:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), by)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Change] = {
    "jpeg 50": jpeg(50),
    "jpeg 75": jpeg(75),
    "jpeg 95": jpeg(95),
    "half": resized(0.5, Image.Resampling.BILINEAR),
    "seven tenths": resized(0.7, Image.Resampling.BICUBIC),
    "double": resized(2, Image.Resampling.LANCZOS),
    "half, jpeg 75": lambda image: jpeg(75)(resized(0.5, Image.Resampling.BOX)(image)),
    "mirrored": mirrored,
    "mirrored, jpeg 50": lambda image: jpeg(50)(mirrored(image)),
    "brighter": lambda image: image.point(lambda value: min(255, round(value * 1.1))),
    "darker": lambda image: image.point(lambda value: round(value * 0.9) + 3),
}


def pixels(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(image.convert("RGB")).transpose(2, 0, 1) for image in images])


@cache
def texture(seed: int, side: int = 32) -> Image.Image:
    """A random image with detail of every size, as photographs have it."""
    random = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells in (2, 4, 8, 16):
        coarse = random.normal(0, 60 / np.sqrt(cells), (cells, cells, 3))
        layers = [Image.fromarray(coarse[..., c].astype(np.float32)).resize((side, side)) for c in range(3)]
        total += np.stack([np.asarray(layer) for layer in layers], axis=2)
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def cifar(data_dir: Path) -> list[Image.Image]:
    column = pq.read_table(data_dir / "cifar10_jpeg" / "test-00000-of-00001.parquet")["img"].combine_chunks()
    return [Image.open(io.BytesIO(encoded)).convert("RGB") for encoded in column.field("bytes").to_pylist()]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_copies_are_found_and_nothing_else(change: Change) -> None:
    originals = [texture(seed) for seed in range(300)]
    copies = [change(image) for image in originals[:60]]
    pairs = near_pairs(descriptors(pixels(originals)), descriptors(pixels(copies)))
    assert {(pair.first, pair.second) for pair in pairs} <= {(i, i) for i in range(60)}
    assert len(pairs) >= 58
    assert all(pair.similarity >= 0.94 for pair in pairs)


def test_of_ten_thousand_real_images_the_planted_copies_are_found(cifar: list[Image.Image]) -> None:
    found = descriptors(pixels(cifar))
    chosen = np.random.default_rng(1).choice(len(cifar), 500, replace=False).tolist()
    for name, change in CHANGES.items():
        planted = descriptors(pixels([change(cifar[i]) for i in chosen]))
        pairs = {(pair.first, pair.second) for pair in near_pairs(found, planted)}
        own = {(i, k) for k, i in enumerate(chosen)}
        assert len(pairs & own) >= (500 if "jpeg" not in name else 490), name
        assert len(pairs - own) <= 4, name  # partners of the real near-duplicates below
    pairs = near_pairs(found, found[chosen])
    assert {(i, k) for k, i in enumerate(chosen)} <= {(pair.first, pair.second) for pair in pairs}


def test_cifar_10_has_near_duplicates_of_its_own_and_few_others_are_named(cifar: list[Image.Image]) -> None:
    """Each was looked at: another exposure, another crop or the mirror image of one photograph."""
    pairs = near_pairs(descriptors(pixels(cifar)))
    assert {(2283, 8500), (3345, 7879), (221, 1272), (5130, 9409)} <= {(p.first, p.second) for p in pairs}
    assert 15 <= len(pairs) <= 25


def test_photographs_of_any_size_are_compared_squeezed(data_dir: Path) -> None:
    files = sorted((data_dir / "hymenoptera").glob("*/*/*"))
    originals = [Image.open(file).convert("RGB") for file in files]

    def squeezed(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return descriptors(pixels([image.resize((64, 64), Image.Resampling.BILINEAR) for image in images]))

    found = squeezed(originals)
    assert near_pairs(found) == []
    for name in ("jpeg 50", "half, jpeg 75", "mirrored, jpeg 50", "brighter"):
        pairs = near_pairs(found, squeezed([CHANGES[name](image) for image in originals[:120]]))
        assert [pair[:2] for pair in pairs] == [(i, i) for i in range(120)], name


class TestNothingIsTakenForACopyThatIsNone:
    @staticmethod
    def count(images: NDArray[np.uint8]) -> int:
        return len(near_pairs(descriptors(images)))

    def test_digits_are_too_small_to_tell(self) -> None:
        rows = [row.image for row in Digits().contents(Path()).rows()]
        assert not descriptors(np.stack(rows)).any()  # type: ignore[arg-type]
        assert self.count(np.stack(rows)) == 0  # type: ignore[arg-type]

    def test_digits_that_were_enlarged_are_alike_and_no_copies(self) -> None:
        rows = [row.image for row in Digits().contents(Path()).rows()]
        large = [Image.fromarray(np.asarray(row)[0]).resize((32, 32), Image.Resampling.BICUBIC) for row in rows]
        assert self.count(pixels(large)) <= 2

    def test_stripes_of_the_same_phase(self) -> None:
        assert self.count(np.stack([row.image for row in Synthetic().contents(Path()).rows()])) == 0  # type: ignore[arg-type]

    def test_smooth_pictures(self) -> None:
        assert self.count(pixels([picture(seed) for seed in range(400)])) == 0

    @pytest.mark.parametrize("side", [16, 32, 64])
    def test_noise(self, side: int) -> None:
        assert self.count(np.random.default_rng(side).integers(0, 256, (500, 3, side, side), np.uint8)) == 0

    def test_shapes_of_many_colors(self) -> None:
        random, images = np.random.default_rng(0), []
        for _ in range(500):
            image = Image.new("RGB", (48, 48), tuple(random.integers(0, 256, 3).tolist()))
            x, y, radius = (*random.uniform(10, 38, 2).tolist(), random.uniform(5, 15))
            box = (x - radius, y - radius, x + radius, y + radius)
            ImageDraw.Draw(image).ellipse(box, fill=tuple(random.integers(0, 256, 3).tolist()))
            images.append(image)
        assert self.count(pixels(images)) <= 1

    def test_one_shape_in_two_colors(self) -> None:
        images = []
        for color in ("red", "blue", "lime"):
            image = Image.new("RGB", (32, 32), "gray")
            ImageDraw.Draw(image).rectangle((8, 8, 20, 24), fill=color)
            images.append(image)
        assert self.count(pixels(images)) == 0

    def test_other_letters_of_one_font(self) -> None:
        images = []
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            image = Image.new("L", (28, 28))
            ImageDraw.Draw(image).text((6, 2), letter, fill=255, font=ImageFont.load_default(20))
            images.append(image)
        assert self.count(pixels(images)) == 0

    @pytest.mark.parametrize("noise", [0, 1])
    def test_blank_images(self, noise: int) -> None:
        random = np.random.default_rng(0)
        shades = random.integers(20, 230, (40, 3, 1, 1))
        images = np.clip(shades + random.integers(-noise, noise + 1, (40, 3, 32, 32)), 0, 255).astype(np.uint8)
        assert not descriptors(images).any()
        assert self.count(images) == 0


def test_small_sides_and_empty_sets() -> None:
    random = np.random.default_rng(0)
    assert descriptors(np.zeros((0, 3, 32, 32), np.uint8)).shape == (0, DIMENSIONS)
    below = random.integers(0, 256, (3, 3, 40, SMALLEST - 1), np.uint8)
    assert not descriptors(below).any()
    assert descriptors(random.integers(0, 256, (3, 3, SMALLEST, 40), np.uint8)).any(axis=1).all()
    nothing = np.zeros((0, DIMENSIONS), np.float32)
    assert near_pairs(nothing) == near_pairs(nothing, nothing) == near_pairs(descriptors(below)) == []
    twice = descriptors(pixels([texture(1)] * 2))
    assert near_pairs(twice, nothing) == near_pairs(nothing, twice) == []


def test_the_same_numbers_one_by_one_and_together() -> None:
    images = pixels([texture(seed, 48) for seed in range(130)])
    one_by_one = np.concatenate([descriptors(image[None]) for image in images])
    assert np.array_equal(descriptors(images), one_by_one)


def test_pairs_within_a_set_and_across_two() -> None:
    images = [texture(seed) for seed in range(8)]
    found = descriptors(pixels([*images, jpeg(60)(images[5]), mirrored(images[2]), images[5]]))
    assert [(*pair[:2], pair.mirrored) for pair in near_pairs(found)] == [
        (2, 9, True), (5, 8, False), (5, 10, False), (8, 10, False),
    ]  # fmt: skip
    across = near_pairs(found[:6], found[6:])
    assert [(*pair[:2], pair.mirrored) for pair in across] == [(2, 3, True), (5, 2, False), (5, 4, False)]
    assert groups(11, near_pairs(found)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 5, 2, 5]


def test_groups_are_joined_through_others() -> None:
    assert groups(7, [(1, 4), (5, 6), (4, 6)]).tolist() == [0, 1, 2, 3, 1, 1, 1]
    assert groups(3, []).tolist() == [0, 1, 2]
    assert groups(0, []).tolist() == []


def test_a_crowd_of_copies_stays_one_group_with_few_pairs() -> None:
    copies = np.repeat(pixels([texture(0), texture(1)]), [700, 500], axis=0)
    copies[:, 0, :4, :4] = np.random.default_rng(0).integers(0, 256, (1200, 4, 4))
    pairs = near_pairs(descriptors(copies))
    assert len(pairs) < 1200 * 200
    assert set(groups(1200, pairs).tolist()) == {0, 700}
