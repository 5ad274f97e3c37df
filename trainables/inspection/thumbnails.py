"""Small pictures for the page."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["MOST_SHOWN", "thumbnail"]

MOST_SHOWN = 24  # examples of a finding
_SIDE = 128
_ENLARGED = 96  # what is smaller than half of this is enlarged by a whole factor, pixel by pixel


def thumbnail(image: Image.Image) -> bytes:
    """A JPEG file of an RGB image with at most 128 pixels a side."""
    largest = max(image.size)
    if largest > _SIDE:
        image = image.copy()
        image.thumbnail((_SIDE, _SIDE))
    elif 2 * largest <= _ENLARGED:
        factor = _ENLARGED // largest
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
