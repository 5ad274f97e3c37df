"""What more images would bring: short trainings on a quarter, half and all of them, and the line through these."""

from __future__ import annotations

import math

import numpy as np

from trainables.check import Check
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.short_runs import Plan, short_run
from trainables.diagnosis.subject import Say, Subject

__all__ = ["data_size"]

SHARES = (0.25, 0.5, 1.0)
MORE = 4  # times as many images
MOVED = 0.05  # of accuracy
FEWEST = 20


def data_size(subject: Subject, planned: Plan, say: Say) -> Finding:
    """Whether four times the images would bring 5 points, by a line in the log of their number."""
    count = min(len(subject.splits.train), planned.steps * planned.batch)  # more are not seen in so many steps
    if count < len(SHARES) * FEWEST:
        return Finding(Check("data size", "unknown", f"{count} training images are too few to leave some out"))
    sizes = [int(share * count) for share in SHARES]
    found = []
    for size in sizes:
        say(f"too little data: {planned.words} on {size:,} training images")
        found.append(short_run(subject, planned, {}, images=size).accuracy)
    slope = float(np.polyfit(np.log2(sizes), found, 1)[0])
    gain = min(slope * math.log2(MORE), 1 - found[-1])
    scores = ", ".join(f"{score:.3f} from {size:,}" for score, size in zip(found, sizes, strict=True))
    told = f"accuracy {scores} training images in {planned.steps} steps; {MORE} times as many would give about "
    told += f"{found[-1] + gain:.2f}"
    if gain < MOVED:
        return healthy("data size", told)
    cure = (
        "more images, or more of each: --set augment.policy=trivialaugment, or weights that have seen others: --set "
        "model.pretrained=PATH; search: augment.strength: {float: [0, 1]}"
    )
    return Finding(Check("too little data", "problem", told, cure), gain, Weight.FIT)
