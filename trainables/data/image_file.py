"""Image files, opened with care: whole, of a size that memory can hold, and of the formats named in `FORMATS`.

A file's content counts, not its extension.
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

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from trainables.data.names import CONVERT, format_of

__all__ = ["DAMAGE", "FORMATS", "LARGEST_FILE", "UnreadableImage", "opened", "quiet", "read_encoded"]

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

LARGEST_FILE = 512 * 2**20  # bytes; so many has an image of MOST_PIXELS in memory
MOST_PIXELS = 2 * 89_478_485  # from there on Pillow refuses an image, too
MOST_OF_A_JPEG = 2 * MOST_PIXELS  # which is decoded at half its width and height; phones have 200 million

# A progressive JPEG repeats a whole image in a few bytes a scan; encoders write about ten scans.
MOST_SCANS = 500
_SCAN = b"\xff\xda"

# What Pillow's decoders raise on damaged files.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    MemoryError, NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

_TOO_LARGE = "make large images smaller (`magick mogrify -resize 4000x4000 FILE`)"


class UnreadableImage(Exception):  # noqa: N818 (reported to the user by this name)
    """An image that can't be decoded; its text says why, and `cure` what to do about all that are like it."""

    def __init__(self, reason: str, cure: str = "repair or remove them") -> None:
        super().__init__(reason)
        self.cure = cure


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
    except DAMAGE as error:
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
