"""A network that has learned the digits, which rules are tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.diagnosis.plants import DIGITS, trained, written
from trainables.diagnosis.opening import opened
from trainables.diagnosis.subject import Subject
from trainables.training.execution import configured

Opened = Callable[[dict[str, Any]], Subject]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diagnosis_cache")


@pytest.fixture(scope="session")
def digits(cache: Path) -> dict[str, Any]:
    """The checkpoint of a healthy training."""
    return trained({**DIGITS, "epochs": 4}, cache)


@pytest.fixture
def subject_of(cache: Path, tmp_path: Path) -> Iterator[Opened]:
    """Makes a subject of a checkpoint's state."""

    def open_state(state: dict[str, Any]) -> Subject:
        return opened(written(state, tmp_path / "c.pt"), None, "cpu", cache, print)

    from trainables.config import Execution

    with configured(Execution(device="cpu", threads=1)):
        yield open_state
