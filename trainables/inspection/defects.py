"""Single images that are no good: unreadable, blank, dark, overexposed, blurred, of odd size or shape; and turned ones.

Which pixels are too dark or blurred is CleanVision's judgment (the extra `doctor`), as its documentation says it.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from typing import Any

from PIL import Image

from trainables.check import Check
from trainables.data.source import listed
from trainables.inspection.finding import Example, Finding
from trainables.inspection.images import Scanned

__all__ = ["appearance", "orientation", "unreadable"]

_ISSUES = {
    "low_information": "blank or nearly so", "dark": "too dark", "light": "overexposed", "blurry": "blurred",
    "odd_aspect_ratio": "of an odd shape", "odd_size": "of an odd size",
}  # fmt: skip
_MANY = 0.01  # share of the images from which one of these is a warning; a few are told
_SMALLEST = 16  # pixels a side below which nothing but darkness can be told


def unreadable(images: Scanned) -> Finding:
    """Files that can't be read as images."""
    total = len(images) + len(images.unreadable)
    found = images.unreadable
    if not found:
        return Finding(Check("unreadable", "ok", f"all {total:,} images can be read"))
    reasons = Counter(image.reason for image in found)
    said = (
        f"{len(found):,} of {total:,} images can't be read: "
        f"{listed([f'{image.name} ({image.reason})' for image in found], 3)}"
    )
    step = "; ".join(dict.fromkeys(image.cure for image in found)) + "; or --set data.on_corrupt=skip leaves them out"
    rows = [{"image": image.name, "split": image.split, "reason": image.reason} for image in found]
    return Finding(Check("unreadable", "problem", said, step), (), {"images": rows, "reasons": dict(reasons)})


class _Lazy:
    """What CleanVision takes for a torch dataset: one image at a time, as a tuple."""

    def __init__(self, images: Scanned) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> tuple[Image.Image]:
        return (self._images.image(number),)


def appearance(images: Scanned) -> Finding:
    """Dark, overexposed, blank and blurred images, and odd sizes. Needs CleanVision, the extra `doctor`."""
    from cleanvision import Imagelab

    tiny = int(images.sizes.min()) < _SMALLEST
    wanted: dict[str, dict[str, Any]] = {issue: {} for issue in (("dark", "light") if tiny else _ISSUES)}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar, which `verbose` does not silence
        lab = Imagelab(torchvision_dataset=_Lazy(images), verbose=False)
        lab.find_issues(wanted, n_jobs=1, verbose=False)
    examples, told, details, many = [], [], {}, False
    for issue in wanted:
        rows = lab.issues.index[lab.issues[f"is_{issue}_issue"]]
        scores = lab.issues.loc[rows, f"{issue}_score"].sort_values()
        numbers = [int(row) for row in scores.index]
        details[issue] = [images.names[number] for number in numbers]
        if not numbers:
            continue
        many |= len(numbers) > max(_MANY * len(images), 1) and not issue.startswith("odd")
        told.append(f"{len(numbers):,} {_ISSUES[issue]}")
        examples += [Example((number,), f"{_ISSUES[issue]}: {_size(images, number)}") for number in numbers[:8]]
    if not told:
        return Finding(
            Check("appearance", "ok", "no image is blank, dark, overexposed, blurred or of odd size"), (), details
        )
    said = f"of {len(images):,} images {', '.join(told)}"
    step = "look at them on the page: leave out what shows nothing" if many else None
    return Finding(Check("appearance", "warning" if many else "ok", said, step), tuple(examples), details)


def _size(images: Scanned, number: int) -> str:
    height, width = images.sizes[number].tolist()
    return f"{images.splits[number]}, {width} x {height}"


def orientation(images: Scanned) -> Finding:
    """Images that EXIF data turn. Which of the others lie on their side, pixels alone do not say."""
    turned = [number for number, is_turned in enumerate(images.turned) if is_turned]
    if not turned:
        said = "no image is turned by EXIF data; images that lie on their side without it can only be found by eye"
        return Finding(Check("orientation", "ok", said))
    said = (
        f"{len(turned):,} of {len(images):,} images lie on their side or are mirrored until their EXIF data turn them, "
        "as is done here and in training; a program that ignores EXIF data (PIL.Image.open, torchvision's ImageFolder) "
        "sees them as they are stored"
    )
    examples = tuple(Example((number,), f"upright by EXIF: {_size(images, number)}") for number in turned[:8])
    return Finding(Check("orientation", "ok", said), examples, {"images": [images.names[number] for number in turned]})
