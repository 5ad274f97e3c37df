"""Encoded images become the same upright RGB pixels whatever their mode; damaged ones say so."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from tests.trainables.image_files import damaged, encode, picture
from trainables.data.decode import decode, decode_crop, decode_square, thumbnail
from trainables.data.image_file import UnreadableImage, quiet


def gray(level: int, mode: str) -> Image.Image:
    return Image.new("RGB", (6, 4), (level,) * 3).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "JPEG"])
def test_every_format_gives_channels_first_pixels(kind: str) -> None:
    image = picture(1, width=24, height=16)
    lossless: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    pixels = decode(encode(image, kind, **lossless.get(kind, {})))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 16, 24)
    assert pixels.flags.c_contiguous
    difference = np.abs(pixels.astype(int) - np.asarray(image).transpose(2, 0, 1))
    assert difference.max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (gray(100, "L"), "PNG"),
        (gray(100, "LA"), "PNG"),
        (gray(100, "RGBA"), "PNG"),
        (gray(100, "P"), "PNG"),
        (gray(100, "CMYK"), "JPEG"),
        (Image.fromarray(np.full((4, 6), 100 * 257, dtype=np.uint16)), "PNG"),
    ],
    ids=["gray", "gray+alpha", "alpha", "palette", "cmyk", "16 bit"],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str) -> None:
    pixels = decode(encode(image, kind))
    assert pixels.shape == (3, 4, 6)
    assert np.abs(pixels.astype(int) - 100).max() <= 3


def test_a_black_and_white_image_has_both_ends_of_the_range() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode(encode(image)).tolist() == [[[0, 255]]] * 3


def test_a_palette_with_a_transparent_entry_keeps_its_colors() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 210, 220])
    image.putpixel((1, 0), 1)
    pixels = decode(encode(image, transparency=bytes([0, 128])))
    assert pixels.reshape(3, 2).T.tolist() == [[10, 20, 30], [200, 210, 220]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    upright = np.zeros((32, 48, 3), dtype=np.uint8)
    upright[:16, :16] = 255  # white in the top left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif))
    assert pixels.shape == (3, 32, 48)
    assert pixels[:, 4:12, 4:12].min() > 245
    assert pixels[:, 20:, :].max() < 10
    assert pixels[:, :, 20:].max() < 10


def test_broken_exif_data_leave_a_sound_image_readable() -> None:
    image = picture(2)
    pixels = decode(encode(image, exif=b"Exif\0\0no TIFF header"))
    assert (pixels == np.asarray(image).transpose(2, 0, 1)).all()


def test_a_square_is_the_centre_of_the_resized_image() -> None:
    image = np.zeros((40, 120, 3), dtype=np.uint8)
    image[:, 40:80] = 200  # the middle third
    pixels = decode_square(encode(Image.fromarray(image)), 20)
    assert pixels.shape == (3, 20, 20)
    assert (pixels[:, :, 2:-2] == 200).all()


@pytest.mark.parametrize(("width", "height"), [(500, 37), (37, 500), (1, 900), (64, 64), (9, 7)])
def test_a_square_has_its_side_whatever_the_image(width: int, height: int) -> None:
    assert decode_square(encode(picture(3, width, height), "JPEG"), 64).shape == (3, 64, 64)


@pytest.mark.parametrize(("width", "height"), [(500, 333), (333, 500), (41, 40), (60, 60), (400, 101), (64, 64)])
@pytest.mark.parametrize("side", [32, 61])
def test_squares_and_crops_are_torchvisions(width: int, height: int, side: int) -> None:
    encoded = encode(picture(4, width, height), "JPEG")
    with Image.open(io.BytesIO(encoded)) as image:
        expected = reference.center_crop(reference.resize(image, [side]), [side])
        assert np.array_equal(decode_square(encoded, side), np.asarray(expected).transpose(2, 0, 1))
        short = min(width, height)
        box = (round(0.25 * (height - short // 2)), width - short // 2, short // 2, short // 2)
        expected = reference.resized_crop(image, *box, [side, side])
        window = (0.5 * (short // 2 * 2) / short,) * 2
        assert np.array_equal(decode_crop(encoded, side, (*window, 1, 0.25)), np.asarray(expected).transpose(2, 0, 1))


def test_a_window_is_where_it_is_said_to_be() -> None:
    rows, columns = np.mgrid[:100, :200]
    encoded = encode(Image.fromarray(np.stack([rows, columns, rows], 2).astype(np.uint8)))
    for window, corners in (
        ((1, 1, 0, 0.5), ((0, 0), (99, 99))),
        ((1, 1, 1, 0), ((0, 100), (99, 199))),
        ((0.4, 0.2, 0.5, 1), ((80, 80), (99, 119))),
    ):
        found = decode_crop(encoded, 64, window).astype(int)
        seen = [tuple(found[:2, 0, 0]), tuple(found[:2, -1, -1])]
        assert np.abs(np.array(seen) - np.array(corners)).max() <= 1


def test_a_large_jpeg_may_be_decoded_smaller_but_looks_the_same() -> None:
    encoded = encode(picture(4, 1600, 1200), "JPEG", quality=95)
    window = (0.7, 0.5, 0.2, 0.9)
    for exact, reduced in (
        (decode_square(encoded, 64), decode_square(encoded, 64, reduced=True)),
        (decode_crop(encoded, 64, window), decode_crop(encoded, 64, window, reduced=True)),
    ):
        assert 0 < np.abs(reduced.astype(int) - exact).mean() < 2


def test_what_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.image_file.MOST_OF_A_JPEG", 10_000)
    with pytest.raises(UnreadableImage, match="102 x 99 pixels, above the limit of 10,000"):
        decode(encode(picture(1, 102, 99), "JPEG"))


def test_a_thumbnail_tells_the_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels, size = thumbnail(encode(picture(5, 300, 100), "JPEG", exif=exif), 64)
    assert pixels.shape == (3, 64, 64)
    assert size == (300, 100)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not a JPEG"),
        (encode(picture(6, 400, 300), "JPEG")[:3000], "truncated"),
        (encode(picture(6, 400, 300), "PNG")[:3000], "truncated"),
        (encode(picture(6), "GIF"), "not a JPEG"),
        (png_claiming(13_400, 13_400), "limit"),
        (png_claiming(40_000, 40_000), "limit"),
    ],
    ids=["empty", "html", "truncated jpeg", "truncated png", "gif", "large", "bomb"],
)
def test_what_cannot_be_read_says_why(encoded: bytes, reason: str) -> None:
    for read in (decode, lambda data: decode_square(data, 32), lambda data: thumbnail(data, 32)):
        with quiet(), pytest.raises(UnreadableImage, match=reason):
            read(encoded)


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = 6
    tags[0x010E] = "a description"
    return tags


SOUND = [
    encode(picture(1, 40, 30), "JPEG", exif=exif()),
    encode(picture(2, 40, 30), "JPEG", progressive=True),
    encode(picture(3, 40, 30).convert("CMYK"), "JPEG"),
    encode(picture(4, 40, 30), "PNG", exif=exif()),
    encode(picture(5, 40, 30).convert("P"), "PNG", transparency=3),
    encode(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
    encode(picture(6, 40, 30).convert("1"), "PNG"),
    encode(picture(7, 40, 30).convert("P"), "BMP"),
    encode(picture(8, 40, 30).convert("RGBA"), "WEBP", exif=exif()),
    encode(picture(9, 40, 30), "WEBP", lossless=True),
    encode(picture(10, 40, 30), "WEBP", save_all=True, append_images=[picture(11, 40, 30)]),
]


@given(encoded=damaged(SOUND))
def test_damage_is_either_harmless_or_reported(encoded: bytes) -> None:
    try:
        with quiet():
            pixels = decode(encoded)
    except UnreadableImage:  # anything else fails the test
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] == 3


def png(width: int, height: int, *more: bytes) -> bytes:
    """A black image of one bit a pixel: small, whatever its size."""
    pixels = zlib.compress((b"\0" + bytes((width + 7) // 8)) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join((chunk(b"IHDR", header), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")))


def peak() -> int:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize(("width", "height"), [(4_000_000, 1), (1, 1_000_000), (2_000_000, 3)])
def test_a_square_of_a_very_long_image_takes_little_memory(width: int, height: int) -> None:
    encoded = png(width, height)
    assert len(encoded) < 10_000
    before = peak()
    assert decode_square(encoded, 224).shape == (3, 224, 224)  # 224 x as large, the whole would be
    assert peak() - before < 300


def test_a_long_image_is_cut_to_its_middle() -> None:
    image = np.zeros((10, 100, 3), dtype=np.uint8)
    image[:, 45:55] = 200
    assert (decode_square(encode(Image.fromarray(image)), 20)[:, :, 1:-1] == 200).all()


def test_text_that_unpacks_a_thousandfold_is_not_unpacked() -> None:
    text = zlib.compress(bytes(10**8), 9)
    before = peak()
    with pytest.raises(UnreadableImage, match="too large"):
        decode(png(8, 8, chunk(b"zTXt", b"Comment\0\0" + text)))
    assert peak() - before < 50


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    encoded = encode(picture(1, 400, 400).convert("L"), "JPEG", progressive=True)
    last = encoded.rindex(b"\xff\xda")
    header = encoded[last : last + 10]
    assert decode(encoded[:last] + (header + b"\0\0") * 50 + b"\xff\xd9").shape == (3, 400, 400)
    with pytest.raises(UnreadableImage, match=r"a JPEG of 100,00\d scans, above the limit of 500"):
        decode(encoded[:last] + (header + b"\0\0") * 100_000 + b"\xff\xd9")


# The last one, since the tests above could not tell what they take of memory after it.
@pytest.mark.parametrize(
    ("form", "side", "options"),
    [("PNG", 9_500, {"compress_level": 1}), ("JPEG", 9_500, {}), ("JPEG", 14_000, {"quality": 50})],
)
def test_images_of_phones_and_satellites_are_read(form: str, side: int, options: dict[str, int]) -> None:
    gray = np.repeat(np.repeat(np.arange(0, 240, 60, dtype=np.uint8).reshape(2, 2), side // 2, 0), side // 2, 1)
    with quiet():
        pixels = decode_square(encode(Image.fromarray(gray), form, **options), 32)
    assert pixels[0, ::31, ::31].tolist() == [[0, 60], [120, 180]]
