"""The winner of a refit on the test split, which a process of its own opens: the search cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from search.engine.driver import StudyDriver
from search.journal.comparisons import Comparison, has_test
from search.journal.events import TestOpened, TestScored
from search.journal.records import TrialRecord, TrialStatus
from trainables.config import ConfigError
from trainables.config.plugins import allowed_plugins
from trainables.result import SCORED

__all__ = ["score_on_test"]


def score_on_test(
    driver: StudyDriver, comparison: Comparison, checkpoint_of: Callable[[TrialRecord], Path | None], cache: Path,
    samples: int | None = None,
) -> None:  # fmt: skip
    """Score the winner's networks and the reference's, once: that the split is opened is recorded before it is.

    A process that is killed meanwhile leaves the same networks to be scored by the next session.

    Args:
        driver: of the session.
        comparison: a refit that has ended.
        checkpoint_of: where the last checkpoint of a run is on this machine; None if it is gone.
        cache: folder of prepared images.
        samples: how many test images at most.

    Raises:
        ConfigError: if checkpoints are gone, or cannot be scored.
    """
    winner = comparison.winner
    if winner is None or comparison.scored is not None or not has_test(winner):
        return
    names = dict.fromkeys([winner.name, comparison.started.reference or winner.name])
    runs = [run for name in names for run in comparison.of_arm(name) if run.status is TrialStatus.COMPLETED]
    paths = {run.number: checkpoint_of(run) for run in runs}
    if gone := [number for number, path in paths.items() if path is None]:
        rule = (
            "must have their last checkpoints, to be scored on the test split, and these are gone: put them back, or "
            "start another study with --fresh"
        )
        raise ConfigError.single("refit", f"trials {', '.join(map(str, gone))}", rule)
    if comparison.opened is None:  # else a session that was killed has recorded it
        driver.record(TestOpened(comparison=comparison.number, trials=tuple(paths), time=time.time()))
    found = _scores((path for path in paths.values() if path is not None), cache, samples)
    scores = {number: {name: row[name] for name in SCORED} for number, row in zip(paths, found, strict=True)}
    images = int(found[0]["images"])
    driver.record(TestScored(comparison=comparison.number, images=images, scores=scores, time=time.time()))


def _scores(checkpoints: Iterable[Path], cache: Path, samples: int | None) -> list[dict[str, float]]:
    capped = [] if samples is None else ["--samples", str(samples)]
    plugins = [word for package in allowed_plugins() for word in ("--plugin", package)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scores.json")
        command = [
            sys.executable, "-m", "trainables.evaluate", *map(str, checkpoints), "--split", "test",
            "--cache", str(cache), "--to", str(file), *capped, *plugins,
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1].removeprefix("error: ")
            rule = f"could not be scored ({why}); the same command tries again"
            raise ConfigError.single("refit", "the test split", rule)
        found: list[dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    return found
