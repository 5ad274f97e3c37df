"""Images as they come, made plain: what the store keeps can be decoded by `trainables.data.decode` as it is.

JPEG, PNG, BMP and WEBP files stay the bytes they were. These become 8-bit PNG files, upright: TIFF, PPM and GIF (their
first page or frame); images with transparency, laid on white; and gray of more than 8 bits or of floats whose source
does not use the whole range of 16 bits, by the same `Levels` for every image of the source.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from trainables.data.decode import Pixels, measured, upright
from trainables.data.image_file import FORMATS, UnreadableImage, opened

__all__ = ["CONVERSION", "Levels", "Plain", "levels_of", "plain", "stored_form"]

CONVERSION = 1  # raise it when a converted image changes
READ = (*FORMATS, "TIFF", "PPM", "GIF")

_MODES = {"L": "gray", "1": "1-bit", "P": "palette", "LA": "gray with alpha", "I;16": "16-bit gray", "I": "32-bit gray",
          "I;16B": "16-bit gray", "F": "float gray"}  # fmt: skip
_MIN_IS_WHITE = 262  # TIFF's photometric interpretation, 0 where white is 0

Levels = tuple[float, float]  # the values of gray that become black and white


@dataclass(frozen=True)
class Plain:
    """An image for the store.

    Attributes:
        encoded: its file, as it came or as PNG.
        converted: whether it is not as it came.
        kind: format and mode, in words.
        notes: what was done to it, in words.
        values: the smallest and largest value of gray beyond 8 bits; None for other images.
        deep_color: the largest value of the high byte where color has 16 bits; None otherwise.
    """

    encoded: bytes
    converted: bool
    kind: tuple[str, str]
    notes: tuple[str, ...]
    values: Levels | None = None
    deep_color: int | None = None


def levels_of(values: Iterable[Levels]) -> Levels | None:
    """The levels for all deep gray images of a source; None if the high byte of 16 bits is right for them."""
    values = list(values)
    if not values:
        return None
    low, high = min(low for low, _ in values), max(high for _, high in values)
    if low >= 0 and 2**15 <= high < 2**16:
        return None
    black = min(low, 0.0)
    return black, high if high > black else black + 1


def plain(encoded: bytes, levels: Levels | None, squeezed: int | None) -> tuple[Plain, Pixels, tuple[int, int]]:
    """Look at one image, and convert it where the store could not keep it as it is.

    Returns:
        What was found, and as `trainables.data.decode.measured` the pixels and the image's own (height, width).

    Raises:
        UnreadableImage: if the file is damaged, too large, or of a format that is not read; its text says which.
    """
    with opened(encoded, READ) as image:
        found = _plain(encoded, image, levels)
        if not found.converted:
            return found, *measured(image, squeezed)
    with opened(found.encoded) as image:
        return found, *measured(image, squeezed)


def stored_form(encoded: bytes) -> bytes:
    """The bytes that the store would have of one image on its own, for `trainables.data.decode`.

    Raises:
        UnreadableImage: as `plain`, or for deep gray that does not use the whole range: which value is black and which
            is white was decided by all images of a source together.
    """
    with opened(encoded, READ) as image:
        found = _plain(encoded, image, None)
    if found.values is not None and (image.mode == "F" or levels_of([found.values]) is not None):
        low, high = found.values
        raise UnreadableImage(f"gray values from {low:g} to {high:g}", "convert them to 8 bits as the training images")
    return found.encoded


def _plain(encoded: bytes, image: Image.Image, levels: Levels | None) -> Plain:
    form, mode = image.format or "", image.mode
    notes = []
    if form != "MPO" and getattr(image, "is_animated", False):
        notes.append("first page of several" if form == "TIFF" else "first frame of several")
    deep, values = mode.startswith("I") or mode == "F", None
    deep_color = not deep and any(
        ";16" in str(tile[-1]) for tile in getattr(image, "tile", ())
    )  # gone when it is loaded
    convert = form not in (*FORMATS, "MPO")
    pixels: Image.Image | None = None
    if deep:
        values = _range(image, form)
        if levels is not None or mode == "F":
            convert, pixels = True, _leveled(image, levels or (0.0, 2.0**16))
    elif _has_transparency(image):
        pixels = _on_white(image)
        if pixels is not None:
            convert = True
            notes.append("transparent, laid on white")
    highest = int(np.asarray(image.convert("RGB")).max()) if deep_color else None
    if convert:
        encoded = _png(upright(image, pixels)[0])
    return Plain(encoded, convert, (form, _MODES.get(mode, mode)), tuple(notes), values, highest)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _range(image: Image.Image, form: str) -> Levels:
    tags: Any = getattr(image, "tag_v2", {})
    if form == "TIFF" and tags.get(_MIN_IS_WHITE) == 0:  # Pillow turns only 8 bits around
        raise UnreadableImage("a deep gray TIFF whose white is 0", "convert such TIFF files to PNG")
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableImage("values that are not finite", "replace what is not finite")
    return low, high


def _leveled(image: Image.Image, levels: Levels) -> Image.Image:
    black, white = levels
    values = (np.asarray(image).astype(np.float64) - black) * (255 / (white - black))
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image | None:
    """The image on white; None if nothing of it is transparent."""
    image.load()
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[0] == 255:
        return None
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
