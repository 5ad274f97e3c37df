"""Encoded images to RGB pixels, the same on every machine, thread and call.

Palette, gray, CMYK and 16-bit images become 8-bit RGB, and are turned upright by their EXIF orientation. Formats are
limited to those named in `FORMATS`: a file's content counts, not its extension. Other formats, transparency and the
range of 16-bit images are the business of `trainables.data.plain`, before an image is stored.
"""

from __future__ import annotations

import io
import math
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from trainables.data.names import CONVERT, format_of

__all__ = [
    "FORMATS", "Pixels", "Size", "Square", "UnreadableImage", "Window", "decode", "decode_as", "decode_crop",
    "decode_square", "measured", "opened", "quiet", "read_encoded", "thumbnail", "upright",
]  # fmt: skip

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

LARGEST_FILE = 512 * 2**20  # bytes; so many has an image of MOST_PIXELS in memory
MOST_PIXELS = 2 * 89_478_485  # from there on Pillow refuses an image, too
MOST_OF_A_JPEG = 2 * MOST_PIXELS  # which is decoded at half its width and height; phones have 200 million

Pixels = NDArray[np.uint8]
Window = tuple[float, float, float, float]

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


_TOO_LARGE = "make large images smaller (`magick mogrify -resize 4000x4000 FILE`)"


class UnreadableImage(Exception):  # noqa: N818 (reported to the user by this name)
    """An image that can't be decoded; its text says why, and `cure` what to do about all that are like it."""

    def __init__(self, reason: str, cure: str = "repair or remove them") -> None:
        super().__init__(reason)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Square:
    """Images cut to squares of `side` pixels; see `decode_square`, and with a `window` `decode_crop`."""

    side: int
    reduced: bool = False
    window: Window | None = None


Size = tuple[int, int] | Square  # (height, width): images that are all of this size, as they are


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


def _header(encoded: bytes, formats: tuple[str, ...]) -> Image.Image:
    """An image before it is decoded, which takes no more memory than one of MOST_PIXELS.

    Raises:
        UnreadableImage: naming the size and the limit, if it is larger.
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=formats)
    except Image.DecompressionBombError:
        if not encoded.startswith(b"\xff\xd8"):
            raise
        image = JpegImageFile(io.BytesIO(encoded))
    width, height = image.size
    limit = MOST_OF_A_JPEG if isinstance(image, JpegImageFile) else MOST_PIXELS
    if width * height > limit:
        raise UnreadableImage(f"{width} x {height} pixels, above the limit of {limit:,}", _TOO_LARGE)
    if width * height > MOST_PIXELS:
        image.draft(None, (width // 2, height // 2))
    return image


def upright(image: Image.Image, pixels: Image.Image | None = None) -> tuple[Image.Image, bool]:
    """`pixels`, or the image's own as 8-bit RGB, turned as its EXIF data say; and whether it lay on its side."""
    image.load()
    orientation = _orientation(image)
    pixels = _rgb(image) if pixels is None else pixels
    turn = _UPRIGHT.get(orientation)
    return (pixels if turn is None else pixels.transpose(turn)), orientation in (5, 6, 7, 8)


@contextmanager
def opened(encoded: bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """An image whose header was read and whose size was checked; what Pillow raises meanwhile is translated.

    Raises:
        UnreadableImage: if the file is damaged, of another format, or too large.
    """
    if not encoded:
        raise UnreadableImage("empty")
    if encoded.startswith(b"\xff\xd8") and encoded.count(_SCAN) > MOST_SCANS:
        raise UnreadableImage(f"a JPEG of {encoded.count(_SCAN):,} scans, above the limit of {MOST_SCANS}")
    try:
        with _header(encoded, formats) as image:
            yield image
    except UnidentifiedImageError:
        raise _unidentified(encoded, formats) from None
    except _DAMAGE as error:
        cure = [_TOO_LARGE] if isinstance(error, Image.DecompressionBombError) else []
        raise UnreadableImage(str(error).splitlines()[0] if str(error) else type(error).__name__, *cure) from error


def _unidentified(encoded: bytes, formats: tuple[str, ...]) -> UnreadableImage:
    found = format_of(encoded[:256])
    if found == "Git LFS pointer":
        return UnreadableImage("a Git LFS pointer", "fetch what Git LFS pointers stand for with `git lfs pull`")
    if found in CONVERT:
        return UnreadableImage(f"{found}, which is not read", f"convert {found} images: `{CONVERT[found]}`")
    if found in formats:
        return UnreadableImage(f"a {found} file that is damaged or of an unusual kind", "convert such files to PNG")
    return UnreadableImage(f"not a {', '.join(formats)} image" + (f" but {found}" if found else ""))


def measured(image: Image.Image, squeezed: int | None = None) -> tuple[Pixels, tuple[int, int]]:
    """The pixels, uint8 [3, h, w] at the image's own size or [3, squeezed, squeezed], and its own (height, width)."""
    turned, size = _turned(image, squeezed)
    if squeezed is not None:
        turned = turned.resize((squeezed, squeezed), Image.Resampling.BILINEAR)
    return _pixels(turned), size


def _turned(image: Image.Image, at_least: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """The upright RGB image and its (height, width) before any reduction.

    With `at_least`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep that many pixels:
    faster, and blurred a little.
    """
    width, height = image.size
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    turned, lay = upright(image)
    return turned, (width, height) if lay else (height, width)


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
        UnreadableImage: if the file is damaged, of another format, or too large.
    """
    with opened(encoded) as image:
        return measured(image)[0]


def decode_as(encoded: bytes, size: Size) -> Pixels:
    """The pixels, uint8 [3, h, w], as a network of images of this size takes them: in training and ever after.

    An image that is not of the (height, width) that all images had in training is scaled until it covers that, and cut
    to its center.

    Raises:
        UnreadableImage: as `decode`.
    """
    if isinstance(size, Square):
        if size.window is not None:
            return decode_crop(encoded, size.side, size.window, size.reduced)
        return decode_square(encoded, size.side, size.reduced)
    pixels = decode(encoded)
    if pixels.shape[1:] == size:
        return pixels
    if size[0] == size[1]:
        return decode_square(encoded, size[0])
    covered = ImageOps.fit(Image.fromarray(pixels.transpose(1, 2, 0)), size[::-1], Image.Resampling.BILINEAR)
    return _pixels(covered)


def decode_square(encoded: bytes, side: int, reduced: bool = False) -> Pixels:
    """The pixels, uint8 [3, side, side]: the shorter side becomes `side` (bilinear, antialiased), then a center crop.

    Bit by bit what torchvision's `Resize(side)` and `CenterCrop(side)` make of the upright RGB image, where one side is
    at most `WIDEST` times the other.

    Args:
        encoded: the file.
        side: pixels.
        reduced: let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, no smaller than twice `side`: faster, not exact.

    Raises:
        UnreadableImage: as `decode`.
    """
    with opened(encoded) as file:
        image = _without_ends(_turned(file, 2 * side if reduced else None)[0])
    width, height = image.size
    short = min(width, height)
    width, height = width * side // short, height * side // short
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return _pixels(image.crop((left, top, left + side, top + side)))


def decode_crop(encoded: bytes, side: int, window: Window, reduced: bool = False) -> Pixels:
    """A window of the image resized to uint8 [3, side, side]: torchvision's `resized_crop` of the upright RGB image.

    Args:
        encoded: the file.
        side: pixels.
        window: its width and height in shorter sides of the image, and where it lies among the places where it fits: 0
            is left or top, 1 right or bottom.
        reduced: let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, the window being no smaller than twice `side`.

    Raises:
        UnreadableImage: as `decode`.
    """
    across, along, right, down = window
    with opened(encoded) as file:
        image = _without_ends(_turned(file, math.ceil(2 * side / min(across, along)) if reduced else None)[0])
    width, height = (max(1, round(share * min(image.size))) for share in (across, along))
    left, top = round(right * (image.width - width)), round(down * (image.height - height))
    image = image.crop((left, top, left + width, top + height))
    return _pixels(image.resize((side, side), Image.Resampling.BILINEAR))


def thumbnail(encoded: bytes, side: int) -> tuple[Pixels, tuple[int, int]]:
    """The whole image squeezed to uint8 [3, side, side], and its own (height, width).

    Raises:
        UnreadableImage: as `decode`.
    """
    with opened(encoded) as image:
        return measured(image, side)
