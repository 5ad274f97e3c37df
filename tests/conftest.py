"""Fixtures for real data and weights, which are not part of the repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.trained_example import Example

# Before torch is loaded: the batches of tests are so small that more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest.register_assert_rewrite(
    "search.testing.searchers", "search.testing.schedulers", "tests.trainables.trainable_suite"
)


# Property tests draw the same examples in every run; `--hypothesis-profile=slow` draws more, `hunt` others each time.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("fast", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("slow", max_examples=500, derandomize=True, **_COMMON)
settings.register_profile("hunt", max_examples=5000, **_COMMON)
settings.load_profile("fast")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder with {what}")
    path = Path(value)
    if not path.is_dir():
        pytest.skip(f"{variable}={value} is no folder: it should hold {what}")
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images: `cifar10_jpeg/` (Parquet) and `hymenoptera/` (ImageFolder)."""
    return _folder("RESNET_SEARCH_DATA", "cifar10_jpeg/ and hymenoptera/")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Real pretrained CIFAR ResNets: resnet20-12fca82f.th and resnet56-4bfd9763.th."""
    return _folder("RESNET_SEARCH_WEIGHTS", "resnet20-12fca82f.th and resnet56-4bfd9763.th")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A checkpoint of a briefly trained network."""
    from tests.trained_example import train_example

    return train_example(tmp_path_factory.mktemp("example"))


class Done(NamedTuple):
    """How a verb ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Typed(Protocol):
    """Runs a verb with these arguments, in this process, which takes a hundredth of a new one's time."""

    def __call__(self, verb: Callable[..., None], *arguments: str) -> Done: ...


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that a test allows is allowed in that test alone."""
    from trainables.config import plugins

    monkeypatch.setattr(plugins, "_allowed", dict(plugins._allowed))
    monkeypatch.setattr(plugins, "_named", {})


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Verbs as a user types them, in a folder and an environment of their own."""
    from trainables.cli import run_verb

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RESNET_SEARCH_CACHE", str(tmp_path / "cache"))

    def run(verb: Callable[..., None], *arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            run_verb(verb, arguments=arguments)
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run
