"""Encoded images to RGB pixels, the same on every machine, thread and call.

Palette, gray, CMYK and 16-bit images become 8-bit RGB, and are turned upright by their EXIF orientation. Other formats,
transparency and the range of 16-bit images are the business of `trainables.data.plain`, before an image is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainables.data.image_file import DAMAGE, opened

__all__ = [
    "Pixels", "Size", "Square", "Window", "decode", "decode_as", "decode_crop", "decode_square", "measured",
    "thumbnail", "upright",
]  # fmt: skip

Pixels = NDArray[np.uint8]
Window = tuple[float, float, float, float]

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


@dataclass(frozen=True, slots=True)
class Square:
    """Images cut to squares of `side` pixels; see `decode_square`, and with a `window` `decode_crop`."""

    side: int
    reduced: bool = False
    window: Window | None = None


Size = tuple[int, int] | Square  # (height, width): images that are all of this size, as they are


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except DAMAGE:  # many cameras write broken EXIF data; the image itself is sound and shown as it is stored
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


def upright(image: Image.Image, pixels: Image.Image | None = None) -> tuple[Image.Image, bool]:
    """`pixels`, or the image's own as 8-bit RGB, turned as its EXIF data say; and whether it lay on its side."""
    image.load()
    orientation = _orientation(image)
    pixels = _rgb(image) if pixels is None else pixels
    turn = _UPRIGHT.get(orientation)
    return (pixels if turn is None else pixels.transpose(turn)), orientation in (5, 6, 7, 8)


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
