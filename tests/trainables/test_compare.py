from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Typed
from trainables.compare import compare, difference
from trainables.config import dump_config, parse_config


def test_the_interval_is_welchs() -> None:
    # Worked by hand: means 2 and 1, standard error sqrt(1/3 + 4/3), 2.94 degrees of freedom, t = 3.215.
    mean, low, high = difference([1.0, 2.0, 3.0], [-1.0, 1.0, 3.0])
    assert mean == pytest.approx(1.0)
    assert (high - low) / 2 == pytest.approx(1.2910 * 3.215, rel=0.02)
    assert low == pytest.approx(2 * mean - high)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        difference([1.0], [1.0, 2.0])


def test_the_better_recipe_is_distinguished_from_the_worse(tmp_path: Path, typed: Typed) -> None:
    for name, lr in (("good", 0.1), ("bad", 1e-4)):
        tree = {"model": {"kind": "synthetic"}, "optimizer": {"kind": "sgd", "lr": lr}, "epochs": 5}
        (tmp_path / f"{name}.yaml").write_text(dump_config(parse_config(tree)))
    done = typed(compare, "good.yaml", "bad.yaml", "--seeds", "3", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.strip().splitlines()
    assert last.startswith("A - B = +")
    assert "interval +" in last
    assert "good.yaml, seed 1002: epoch   5/5" in done.stdout
    bad = typed(compare, "good.yaml", "bad.yaml", "--metric", "accuracy")
    assert bad.returncode == 2
    assert "val_accuracy" in bad.stderr
