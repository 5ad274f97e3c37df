from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Typed
from trainables.compare import compare, interval, seeds_needed, verdict
from trainables.config import dump_config, parse_config


def test_the_interval_is_students() -> None:
    # Worked by hand: mean 2, standard deviation 1, standard error 1/sqrt(3), t of 2 degrees of freedom 4.303.
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-3)
    assert low == pytest.approx(2 * mean - high)
    assert (interval([1.0, 2.0, 3.0], 0.01)[2] - mean) / (high - mean) == pytest.approx(9.9248 / 4.3027, rel=1e-3)
    with pytest.raises(ValueError, match="at least two"):
        interval([1.0])


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.01, 0.02, size=(2000, 4))
    held = [low <= 0.01 <= high for _, low, high in map(interval, draws.tolist())]
    assert 0.93 < sum(held) / len(held) < 0.97


def test_the_verdict_is_plain() -> None:
    better = [0.010, 0.012, 0.014]
    assert verdict("B", "A", better, "val_accuracy") == "B is better than A by 0.0120 [0.0070, 0.0170]: decided"
    assert verdict("B", "A", better, "val_loss") == "B is worse than A by 0.0120 [0.0070, 0.0170]: decided"
    worse = [-value for value in better]
    assert verdict("B", "A", worse, "val_accuracy") == "B is worse than A by 0.0120 [0.0070, 0.0170]: decided"
    assert verdict("B", "A", better, "lr").startswith("B is higher than A by")
    assert "no difference" in verdict("B", "A", better, "val_accuracy", 0.05 / 20)
    unclear = [0.03, -0.01, 0.01]
    line = verdict("B", "A", unclear, "val_accuracy")
    needed = seeds_needed(unclear)
    assert line == (
        f"B: no difference from A can be told with 3 seeds, +0.0100 [-0.0397, +0.0597]; about {needed} would be needed"
    )
    assert needed is not None
    assert needed > 3
    assert "more than 1000 would be needed" in verdict("B", "A", [1.0, -1.0, 0.001], "val_accuracy")
    assert verdict("B", "A", [0.0, 0.0], "val_f1") == "B and A have the same val_f1 with every seed"


def test_the_better_recipe_is_distinguished_from_the_worse(tmp_path: Path, typed: Typed) -> None:
    for name, lr in (("good", 0.1), ("bad", 1e-4)):
        tree = {"model": {"kind": "synthetic"}, "optimizer": {"kind": "sgd", "lr": lr}, "epochs": 5}
        (tmp_path / f"{name}.yaml").write_text(dump_config(parse_config(tree)))
    done = typed(compare, "good.yaml", "bad.yaml", "--seeds", "3", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    *_, found, how = done.stdout.strip().splitlines()
    assert found.startswith("bad.yaml is worse than good.yaml by ")
    assert found.endswith(": decided")
    assert how == "(95 % intervals of the differences; paired by seed, Student's t)"
    assert "good.yaml, seed 1002: epoch   5/5" in done.stdout
    bad = typed(compare, "good.yaml", "bad.yaml", "--metric", "accuracy")
    assert bad.returncode == 2
    assert "val_accuracy" in bad.stderr


def test_many_configs_are_compared_with_one(tmp_path: Path, typed: Typed) -> None:
    for name, lr in (("a/one", 0.1), ("b/one", 0.1), ("worst", 1e-4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tree = {"model": {"kind": "synthetic"}, "optimizer": {"kind": "sgd", "lr": lr}, "epochs": 3}
        (tmp_path / f"{name}.yaml").write_text(dump_config(parse_config(tree)))
    done = typed(compare, "a/one.yaml", "b/one.yaml", "--against", "worst.yaml", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    *_, first, second, how = done.stdout.strip().splitlines()
    assert first.startswith("a/one.yaml is better than worst.yaml by ")
    assert second.startswith("b/one.yaml is better than worst.yaml by ")
    assert "corrected for 2 comparisons" in how
    same = typed(compare, "a/one.yaml", "b/one.yaml", "--seeds", "2")
    assert "b/one.yaml and a/one.yaml have the same val_accuracy with every seed" in same.stdout
    for arguments in (("worst.yaml",), ("worst.yaml", "worst.yaml"), ("worst.yaml", "--against", "worst.yaml")):
        assert "must be at least two different files" in typed(compare, *arguments).stderr


def test_a_signal_to_it_alone_ends_its_trainings_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tree = {"data": {"source": "digits"}, "epochs": 10_000, "execution": {"device": "cpu", "threads": 1}}
        (tmp_path / f"{name}.yaml").write_text(dump_config(parse_config(tree)))
    command = [sys.executable, "-m", "trainables.compare", "a.yaml", "b.yaml", "--cache", "cache", "--jobs", "2"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        assert started.stdout is not None
        next(line for line in started.stdout if "epoch" in line)  # one of them trains
        started.terminate()
        assert started.wait(60) == 130
        assert started.stderr is not None
        assert "interrupted" in started.stderr.read()
        for _ in range(300):
            try:
                os.killpg(started.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
        os.killpg(started.pid, signal.SIGKILL)
        pytest.fail("trainings went on after the comparison had ended")
