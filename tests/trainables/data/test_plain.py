"""Images that the store could not keep as they come become plain PNG; all others stay the bytes they were."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from tests.trainables.image_files import damaged, encode, picture, write_folder
from trainables.config import ConfigError, Data
from trainables.data.arrow import read_pixels
from trainables.data.decode import decode
from trainables.data.image_file import UnreadableImage, quiet
from trainables.data.plain import Levels, levels_of, plain
from trainables.data.store import prepare


def made(encoded: bytes, levels: Levels | None = None) -> tuple[np.ndarray[Any, Any], bool]:
    """The pixels [h, w, 3] of what is stored, and whether it was converted; a trial decodes the same."""
    found, pixels, size = plain(encoded, levels, None)
    assert size == pixels.shape[1:]
    assert (decode(found.encoded) == pixels).all()
    assert found.converted == (found.encoded != encoded)
    return pixels.transpose(1, 2, 0), found.converted


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[("JPEG", mode) for mode in ("RGB", "L", "CMYK")],
        *[("PNG", mode) for mode in ("RGB", "L", "P", "1")],
        *[("BMP", mode) for mode in ("RGB", "L", "P", "1")],
        ("WEBP", "RGB"),
    ],
)
def test_what_was_read_before_stays_as_it_is(kind: str, mode: str) -> None:
    encoded = encode(picture(1).convert(mode), kind)
    pixels, converted = made(encoded)
    assert not converted
    assert (pixels == np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_that_hides_nothing_changes_nothing(mode: str) -> None:
    pixels, converted = made(encode(picture(1).convert(mode)))
    assert not converted
    assert (pixels == np.asarray(picture(1).convert(mode).convert("RGB"))).all()


@pytest.mark.parametrize(("kind", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {})])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_other_formats_lose_nothing(kind: str, options: dict[str, Any], mode: str) -> None:
    image = picture(2, 24, 16).convert(mode)
    pixels, converted = made(encode(image, kind, **options))
    assert converted
    assert (pixels == np.asarray(image.convert("RGB"))).all()


def transparent(mode: str, kind: str) -> bytes:
    """Two pixels: red, and something transparent over it."""
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.putpixel((1, 0), 1)
        return encode(image, kind, transparency=1)
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    if mode == "RGB":
        return encode(image.convert("RGB"), kind, transparency=(0, 0, 0))
    return encode(image, kind, lossless=True)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("RGB", "PNG")]
)
def test_transparency_is_laid_on_white(mode: str, kind: str) -> None:
    pixels, converted = made(transparent(mode, kind))
    assert converted
    assert pixels.tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_half_transparent_black_on_white_is_gray() -> None:
    pixels, _ = made(encode(Image.new("RGBA", (1, 1), (0, 0, 0, 128))))
    assert pixels.tolist() == [[[127] * 3]]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([(0, 65_535)], None),  # the high byte, as ever
        ([(0, 200), (3, 40_000)], None),
        ([(0, 4_050), (10, 90)], (0, 4_050)),
        ([(0.0, 0.98), (0.5, 0.6)], (0, 0.98)),
        ([(-1_000, 3_000)], (-1_000, 3_000)),
        ([(0, 100_000)], (0, 100_000)),
        ([(0, 0)], (0, 1)),
        ([], None),
    ],
)
def test_levels_are_those_of_all_images(values: list[Levels], levels: Levels | None) -> None:
    assert levels_of(values) == levels


@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint16", "TIFF"), ("uint16", "PNG"), ("int32", "TIFF"), ("float32", "TIFF")]
)
def test_deep_gray_is_scaled_by_the_levels(dtype: str, kind: str) -> None:
    image = Image.fromarray(np.array([[0, 1024, 4095]], dtype=dtype))
    pixels, _ = made(encode(image, kind), (0, 4095))
    assert pixels[0, :, 0].tolist() == [0, 64, 255]


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG"])
def test_exif_orientation_is_undone_once(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.zeros((24, 16), dtype=np.uint8)
    upright[:8, :8] = 200
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    if kind == "PNG":
        stored = stored.convert("RGBA")
        stored.putalpha(254)
    pixels, _ = made(encode(stored, kind, exif=exif))
    assert pixels.shape == (24, 16, 3)
    assert pixels[1:7, 1:7].min() > 190
    assert pixels[10:, 10:].max() < 10


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_color(highest: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write."""
    rows = b"".join(b"\0" + np.linspace(0, highest, 60).astype(">u2").tobytes() for _ in range(20))
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("highest", "accepted"), [(4095, False), (16_000, False), (65_535, True)])
def test_deep_color_that_would_be_black_is_refused(tmp_path: Path, highest: int, accepted: bool) -> None:
    write_folder(tmp_path / "data", {"cat": 0, "dog": 0})
    for i in range(12):
        (tmp_path / f"data/{'cat' if i % 2 else 'dog'}/{i}.png").write_bytes(deep_color(highest - i))
    data = Data(source=f"imagefolder:{tmp_path}/data")
    if accepted:
        assert max(prepare(data, tmp_path / "cache").mean) > 0.3
    else:
        with pytest.raises(ConfigError, match=r"color images of 16 bits whose values end at .*nearly black; convert"):
            prepare(data, tmp_path / "cache")


def test_an_image_means_the_same_beside_others_until_the_range_changes(tmp_path: Path) -> None:
    def store(name: str, brightest: int) -> tuple[str, int]:
        for label in ("cat", "dog"):
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(6):
                pixels = np.full((9, 9), 100 * i + (label == "cat"), np.uint16)
                pixels[0, 0] = brightest
                Image.fromarray(pixels).save(tmp_path / name / label / f"{i}.tif")
        found = prepare(Data(source=f"imagefolder:{tmp_path}/{name}"), tmp_path / "cache")
        train = read_pixels(found.directory / "train.arrow")
        assert train is not None
        return found.fingerprint, int(train.max())

    first, again, deeper = store("a", 4000), store("b", 4000), store("c", 9000)
    assert first == again
    assert deeper[0] != first[0]
    assert first[1] == deeper[1] == 255


SOUND = [
    encode(picture(1, 40, 30), "TIFF", compression="tiff_lzw"),
    encode(picture(2, 40, 30), "TIFF", save_all=True, append_images=[picture(3)]),
    encode(Image.fromarray(np.arange(1200, dtype=np.float32).reshape(30, 40)), "TIFF"),
    encode(picture(4, 40, 30).convert("CMYK"), "TIFF"),
    encode(picture(5, 40, 30), "GIF", save_all=True, append_images=[picture(6, 40, 30)]),
    encode(picture(7, 40, 30), "PPM"),
    encode(picture(8, 40, 30).convert("L"), "PPM"),
    transparent("P", "PNG"),
]


@given(encoded=damaged(SOUND))
def test_damage_is_either_harmless_or_reported(encoded: bytes) -> None:
    try:
        with quiet():
            found, pixels, _ = plain(encoded, (0, 100), None)
    except UnreadableImage:  # anything else fails the test
        return
    assert (decode(found.encoded) == pixels).all()
