"""Learning rates far from where the loss falls: a range test (Smith 2015), then the same steps at both rates.

The rate rises geometrically over a short training; where the smoothed loss falls fastest is a good one. That is rough,
so that a rate is called wrong only if it lies far off and the other one does better in as many steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.config import SGD
from trainables.diagnosis.short_runs import Plan, range_losses
from trainables.diagnosis.subject import Subject

__all__ = ["RangeTest", "is_suspect", "range_test", "steepest"]

TOO_HIGH, TOO_LOW = 3.0, 1 / 30  # times the rate of steepest descent
# Of the rates that are tried; those of steps that do not grow with the gradient are lower than SGD's.
DECADES = dict.fromkeys(("adam", "adamw", "nadamw", "rmsprop"), (-6.0, -0.5))
DECADES |= {"sgd": (-4.0, 1.0), "lamb": (-5.0, 0.5), "lion": (-7.0, -1.5), "muon": (-5.0, 0.5)}
WINDOW = 0.8  # decades over which the slope is taken
LEAST_FALL = 0.03  # of the loss, by the first loss
DIVERGED = 1.5  # times the first loss


@dataclass(frozen=True)
class RangeTest:
    """The rate at which the loss falls fastest."""

    steepest: float


def range_test(subject: Subject, planned: Plan) -> RangeTest | None:
    """The range test of the subject's config; None if the loss falls nowhere."""
    low, high = DECADES[subject.config.optimizer.kind]
    if isinstance(subject.config.optimizer, SGD):  # the step that a gradient comes to in the end
        low, high = (end + math.log10(1 - subject.config.optimizer.momentum) + 1 for end in (low, high))
    rates = np.logspace(low, high, planned.steps).tolist()
    found = steepest(rates, range_losses(subject, planned, rates))
    return None if found is None else RangeTest(found)


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate around which the smoothed loss falls fastest, before it rises far above its start; None without a fall.

    Args:
        rates: rising geometrically, one a step.
        losses: of the steps; may end earlier.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < len(rates) // 4:
        return None
    x = np.log10(np.asarray(rates[: len(finite)]))
    smooth = _smoothed(finite)
    above = np.flatnonzero(smooth > DIVERGED * smooth[0])
    end = int(above[0]) if len(above) else len(finite)
    width = max(3, round(WINDOW / (x[1] - x[0])))
    slopes = [
        (np.polyfit(x[i : i + width], smooth[i : i + width], 1)[0], float(x[i : i + width].mean()))
        for i in range(max(end - width + 1, 0))
    ]
    if not slopes or smooth[0] - smooth[:end].min() < LEAST_FALL * smooth[0]:
        return None
    return float(10 ** min(slopes)[1])


def _smoothed(losses: Sequence[float], keep: float = 0.7) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """An exponential average, its start corrected for."""
    average, out = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = keep * average + (1 - keep) * loss
        out.append(average / (1 - keep**step))
    return np.asarray(out)


def is_suspect(lr: float, found: RangeTest, times: float = 1.0) -> bool:
    """Whether a learning rate lies so far off that `times` the one of steepest descent is worth a try."""
    return not TOO_LOW <= lr / (times * found.steepest) <= TOO_HIGH
