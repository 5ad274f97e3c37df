"""Encoded images to RGB pixels, the same on every machine, thread and call.

Palette, gray, CMYK, 16-bit and transparent images become 8-bit RGB (transparency is dropped, as torchvision's loader
does), and are turned upright by their EXIF orientation. Formats are limited to those named in `FORMATS`: a file's
content counts, not its extension.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

__all__ = ["FORMATS", "Pixels", "UnreadableImage", "decode", "decode_square", "quiet", "read_encoded", "thumbnail"]

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

LARGEST_FILE = 512 * 2**20  # bytes; the largest image that Pillow takes has 256 MiB of pixels

Pixels = NDArray[np.uint8]

# A progressive JPEG repeats a whole image in a few bytes a scan; encoders write about ten scans.
MOST_SCANS = 500
_SCAN = b"\xff\xda"

WIDEST = 4  # long over short side beyond which the ends are cut off before a square is made

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on damaged files.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    MemoryError, NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class UnreadableImage(Exception):  # noqa: N818 (reported to the user by this name)
    """An image that can't be decoded; its text says why."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings while many images are read: what matters in them is raised by `decode`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def read_encoded(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        UnreadableImage: if it is no regular file (a pipe or device may never end), or too large.
        OSError: if it can't be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImage("no regular file")
    if found.st_size > LARGEST_FILE:
        raise UnreadableImage(f"{found.st_size:,} bytes, above the limit of {LARGEST_FILE:,}")
    return path.read_bytes()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:  # many cameras write broken EXIF data; the image itself is sound and shown as it is stored
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit gray: keep the high byte, as Pillow does for 16-bit color
        high = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        image = Image.fromarray(high)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _open(encoded: bytes, at_least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The upright RGB image and its (height, width) before any reduction.

    With `at_least`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep that many pixels.
    """
    if not encoded:
        raise UnreadableImage("empty")
    if encoded.startswith(b"\xff\xd8") and encoded.count(_SCAN) > MOST_SCANS:
        raise UnreadableImage(f"a JPEG of {encoded.count(_SCAN):,} scans, above the limit of {MOST_SCANS}")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and width * height > limit:
                raise UnreadableImage(f"{width} x {height} pixels, above the limit of {limit:,}")
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            orientation = _orientation(image)
            upright = _rgb(image)
            if orientation in _UPRIGHT:
                upright = upright.transpose(_UPRIGHT[orientation])
            return upright, (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    except UnidentifiedImageError:
        raise UnreadableImage(f"not a {', '.join(FORMATS)} image") from None
    except _DAMAGE as error:
        raise UnreadableImage(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _without_ends(image: Image.Image) -> Image.Image:
    """The middle of a very long image: as large as `side` asks, the whole could take any amount of memory."""
    width, height = image.size
    longest = WIDEST * min(width, height)
    left, top = max(width - longest, 0) // 2, max(height - longest, 0) // 2
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _pixels(image: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decode(encoded: bytes) -> Pixels:
    """The pixels, uint8 [3, h, w], at the image's own size.

    Raises:
        UnreadableImage: if the file is damaged, of another format, or larger than Pillow's limit.
    """
    return _pixels(_open(encoded)[0])


def decode_square(encoded: bytes, side: int) -> Pixels:
    """The pixels, uint8 [3, side, side]: the shorter side becomes `side` (bilinear, antialiased), then a center crop.

    Raises:
        UnreadableImage: as `decode`.
    """
    image, _ = _open(encoded, at_least=2 * side)
    image = _without_ends(image)
    width, height = image.size
    scale = side / min(width, height)
    width, height = max(side, round(width * scale)), max(side, round(height * scale))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return _pixels(image.crop((left, top, left + side, top + side)))


def thumbnail(encoded: bytes, side: int) -> tuple[Pixels, tuple[int, int]]:
    """The whole image squeezed to uint8 [3, side, side], and its own (height, width).

    Raises:
        UnreadableImage: as `decode`.
    """
    image, size = _open(encoded, at_least=side)
    return _pixels(image.resize((side, side), Image.Resampling.BILINEAR)), size
