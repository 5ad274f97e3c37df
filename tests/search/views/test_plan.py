"""The preview of a search: what is not known is not guessed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from search.planning.calibration import Plan, calibrate
from search.planning.resources import resolved_execution
from search.study.overrides import override
from search.study.parse import load_study
from search.views.plan import print_plan
from tests.search.sample_study import IMAGES


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_an_epoch_on_a_gpu_is_not_timed_where_there_is_none(tmp_path: Path) -> None:
    spec = resolved_execution(load_study("digits_resnet8"), cuda=True, cpus_per_trial=1)
    calibration = calibrate(spec.trial_config({}), tmp_path)
    assert calibration.epoch_seconds is None
    assert calibration.checkpoint_bytes > 100_000
    printed = StringIO()
    priced = override(spec, max_cost=20.0, prices=["head=0.1", "gpu_spot=0.4"])
    prior = ("warm start: 2 of 3 trials",)
    plan = Plan(priced, 4, calibration, {"head": 1, "gpu_spot": 4}, IMAGES, prior=prior)
    print_plan(plan, Console(file=printed, width=160))
    assert "\n".join([*IMAGES, *prior]) in printed.getvalue()
    assert "time: not known, 4 at once" in printed.getvalue()
    assert "cost: 1.70 an hour, with 1 head, 4 gpu_spot up now; cut off at 20.00, after 11.8 h" in printed.getvalue()
