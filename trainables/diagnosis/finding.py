"""What the doctor finds, and which of it comes first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

from trainables.check import Check

__all__ = ["Finding", "Weight", "healthy", "ranked"]


class Weight(IntEnum):
    """How much a finding explains: what comes first makes the numbers behind it meaningless, or causes them."""

    DEFECT = 0  # of images, labels or of how they reach the network: no setting can be judged before it is mended
    SETTING = 1  # of the training
    FIT = 2  # what is left when images and settings are in order
    SYMPTOM = 3  # seen, but caused by something else


@dataclass(frozen=True, slots=True)
class Finding:
    """A check of the model doctor.

    Attributes:
        check: what is said.
        gain: by how much the counterfactual moves accuracy, as a fraction; 0 where nothing was tried.
        weight: findings of a smaller one come first, whatever their gain.
    """

    check: Check
    gain: float = 0.0
    weight: Weight = Weight.SYMPTOM

    @property
    def is_alarm(self) -> bool:
        """Whether something is wrong."""
        return self.check.status in ("problem", "warning")

    def told_with(self, symptom: str) -> Finding:
        """The finding with what it brings about before its evidence."""
        return replace(self, check=replace(self.check, evidence=f"{symptom}; {self.check.evidence}"))


def healthy(name: str, evidence: str) -> Finding:
    """A check that finds nothing."""
    return Finding(Check(name, "ok", evidence))


def ranked(findings: Iterable[Finding]) -> list[Check]:
    """The checks, the cause first: alarms by weight, then by gain; then what cannot be told, then what is in order.

    Of two findings of one name the first stays.
    """
    order = {"problem": 0, "warning": 0, "unknown": 1, "ok": 2}
    found = sorted(findings, key=lambda one: (order[one.check.status], one.weight, -one.gain))
    kept: dict[str, Check] = {}
    for one in found:
        kept.setdefault(one.check.name, one.check)
    return list(kept.values())
