"""Real trainings with one fault each: the right cause comes first. Healthy ones: nothing does.

A first name is right if it is the planted fault's, whichever of its two faces is measured to matter more where it has
two (an image set that is too small is overfitted).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.diagnosis.plants import (
    DIGITS,
    Edit,
    bgr,
    cifar,
    imbalanced,
    leaking,
    normalized,
    random_weights,
    shuffled,
    stale_statistics,
    statistics_of_other_scale,
    trained,
    written,
)
from trainables.check import Check
from trainables.diagnosis.doctor import diagnosed

State = dict[str, Any]
Doctor = Callable[[State], list[Check]]

pytestmark = pytest.mark.slow


class Trainings:
    """Trainings on real images, each made once."""

    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._data_dir, self._folder, self.cache = data_dir, folder, folder / "cache"
        self._healthy: State | None = None

    def source(self, name: str, edit: Edit | None = None, train: int = 2000) -> dict[str, Any]:
        """CIFAR-10 images of so many training rows, edited."""
        return {"source": cifar(self._folder / name, self._data_dir, train, 600, edit)}

    def on(self, name: str, edit: Edit | None = None, train: int = 2000, **changes: Any) -> State:
        """A training on edited CIFAR-10 images."""
        return trained({"data": self.source(name, edit, train), **changes}, self.cache)

    def on_digits(self, **changes: Any) -> State:
        """A training on the digits."""
        return trained({**DIGITS, **changes}, self.cache)

    @property
    def healthy(self) -> State:
        """The one that most faults are planted in afterwards."""
        if self._healthy is None:
            self._healthy = self.on("plain")
        return self._healthy


@pytest.fixture(scope="module")
def trainings(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(data_dir, tmp_path_factory.mktemp("planted"))


@pytest.fixture
def doctor(trainings: Trainings, tmp_path: Path) -> Doctor:
    def examine(state: State) -> list[Check]:
        return diagnosed(written(state, tmp_path / "c.pt"), None, "cpu", trainings.cache, print)

    return examine


def sgd(lr: float, decay: float = 5e-4) -> dict[str, Any]:
    return {"kind": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": decay}


PLANTS: dict[str, tuple[tuple[str, ...], Callable[[Trainings], State]]] = {
    "stale statistics": (("batch norm",), lambda t: stale_statistics(t.healthy)),
    "statistics of levels 0..255": (("batch norm",), lambda t: statistics_of_other_scale(t.healthy, t.cache)),
    "no normalization": (("normalization",), lambda t: normalized(t.healthy, 0.0, 1.0)),
    "BGR": (("channel order",), lambda t: bgr(t.healthy)),
    "leak": (("duplicates",), lambda t: t.on("leak", leaking)),
    "shuffled labels": (("labels",), lambda t: t.on("shuffled", shuffled, epochs=5)),
    "nine in ten of one class": (("class imbalance",), lambda t: t.on("imbalanced", imbalanced)),
    "150 images": (
        ("overfitting", "too little data"),
        lambda t: t.on("tiny", train=150, epochs=40, augment={"strength": 0.0}),
    ),
    "ImageNet's stem": (
        ("stem",),
        lambda t: t.on("stem", train=1200, model={"kind": "torchvision_resnet", "depth": 18}, epochs=6),
    ),
    "rate of 10": (("learning rate",), lambda t: t.on("high", optimizer=sgd(10.0), epochs=5)),
    "Adam at 1e-7": (("learning rate",), lambda t: t.on_digits(optimizer={"kind": "adam", "lr": 1e-7})),
    "weight decay of .5": (("weight decay",), lambda t: t.on_digits(optimizer=sgd(0.1, 0.5))),
    "clipped to nothing": (("clipping",), lambda t: t.on_digits(regularization={"clip_norm": 1e-4})),
    "a frozen random trunk": (
        ("frozen stages",),
        lambda t: t.on_digits(model={"pretrained": random_weights(t.cache), "frozen_stages": 4}),
    ),
    "batches of two": (("batch size",), lambda t: t.on_digits(batch_size=2, epochs=1, optimizer=sgd(0.05))),
    "one epoch": (("too few epochs",), lambda t: t.on_digits(epochs=1, optimizer=sgd(0.01))),
    "constant rate": (("no decay",), lambda t: t.on("plain", optimizer=sgd(0.3), schedule={"kind": "constant"})),
}

HEALTHY: dict[str, Callable[[Trainings], State]] = {
    "CIFAR-10, ResNet-8": lambda t: t.healthy,
    "CIFAR-10, ResNet-8 with group norm": lambda t: t.on(
        "plain", model={"norm": "group"}, optimizer={"kind": "adamw", "lr": 3e-3, "weight_decay": 0.05}
    ),
    "digits, ResNet-8": lambda t: t.on_digits(),
    "digits, ResNet-14": lambda t: t.on_digits(
        model={"depth": 14}, optimizer={"kind": "adamw", "lr": 3e-3, "weight_decay": 0.05}
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_the_planted_cause_is_first(name: str, trainings: Trainings, doctor: Doctor) -> None:
    right, make = PLANTS[name]
    first = doctor(make(trainings))[0]
    assert first.status == "problem", first
    assert first.name in right, first
    assert first.next_step


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_has_no_cause(name: str, trainings: Trainings, doctor: Doctor) -> None:
    found = [check for check in doctor(HEALTHY[name](trainings)) if check.status in ("problem", "warning")]
    assert not found
