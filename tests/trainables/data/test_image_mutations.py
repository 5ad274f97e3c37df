"""Images that are damaged or made to hurt: pixels, or a reason; neither takes long nor much memory."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.mutations import check_clear, damaged
from tests.trainables.image_files import encode, picture, write_folder
from trainables.config import ConfigError, Data
from trainables.data import decode as decode_module
from trainables.data.decode import UnreadableImage, decode, decode_square, quiet, read_encoded, thumbnail
from trainables.data.store import prepare


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


@given(encoded=st.sampled_from(SOUND).flatmap(damaged))
def test_damage_is_either_harmless_or_told(encoded: bytes) -> None:
    shapes = []
    for read in (decode, lambda data: decode_square(data, 16), lambda data: thumbnail(data, 16)[0]):
        try:
            with quiet():
                pixels = read(encoded)
        except UnreadableImage:  # anything else fails the test
            continue
        assert pixels.dtype == np.uint8
        shapes.append(pixels.shape)
    assert {shape[0] for shape in shapes} <= {3}
    assert {shape[1:] for shape in shapes[-2:]} <= {(16, 16)} or len(shapes) < 2


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


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


def test_files_that_never_end_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "images", {"a": 12, "b": 12})
    odd = tmp_path / "images" / "a"
    os.mkfifo(odd / "pipe.png")  # nobody will ever write to it
    (odd / "zero.png").symlink_to("/dev/zero")
    (odd / "folder.png").mkdir()
    (odd / "circle.png").symlink_to(odd / "circle.png")
    with (odd / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="4 of 28 are not") as caught:
        prepare(Data(source=f"imagefolder:{tmp_path / 'images'}"), tmp_path / "cache")
    check_clear(caught.value)
    told = str(caught.value)
    assert "pipe.png (no regular file)" in told
    assert "zero.png (no regular file)" in told
    assert "sparse.png (1,099,511,627,776 bytes, above the limit of 536,870,912)" in told
    monkeypatch.setattr(decode_module, "LARGEST_FILE", 3)
    with pytest.raises(UnreadableImage, match="above the limit of 3"):
        read_encoded(next(odd.glob("0*.png")))


def test_names_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 3, "b": 3})
    (tmp_path / "images" / "a" / "\x1b[2J\nerror: all is well.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"\\x1b\[2J\\nerror") as caught:
        prepare(Data(source=f"imagefolder:{tmp_path / 'images'}"), tmp_path / "cache")
    check_clear(caught.value)
