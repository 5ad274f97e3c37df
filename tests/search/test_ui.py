"""`search.ui`: the address that it prints leads to the study."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from search.tracking.projection import RunProjection
from tests.search.sample_study import sample_events, sample_spec, write_study


@pytest.mark.slow  # MLflow takes ten seconds to start
def test_one_address_leads_to_mlflow_the_report_and_optuna(store: str, tmp_path: Path) -> None:
    spec = sample_spec()
    write_study(tmp_path / "sample", spec, sample_events(spec))
    (tmp_path / "sample" / "report.html").write_text("the report")
    projection = RunProjection(store, spec, tmp_path / "mlartifacts", pytest.fail)
    for event in sample_events(spec):
        projection.take(event)
    projection.write()
    process = subprocess.Popen(
        [sys.executable, "-m", "search.ui", "sample", "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().partition("open ")[2].strip()
        mlflow = process.stdout.readline().partition("in MLflow: ")[2].strip()
        assert mlflow == (
            f"{address}/mlflow/#/experiments/{projection.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=resnet_search"
        )
        for page, text in ((address, b"Best: trial 4"), (f"{address}/report.html", b"the report"), (mlflow, b"MLflow")):
            with urllib.request.urlopen(page.partition("#")[0], timeout=60) as answer:  # noqa: S310 (this machine)
                assert text in answer.read()
    finally:
        process.terminate()
        assert process.wait(60) == 0
