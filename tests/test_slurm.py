"""deploy/slurm.sbatch, run by bash as SLURM would: `srun` and `scontrol` are stand-ins, all else is real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from search.journal.events import EpochReported, TrialEnded
from search.journal.log import read

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "deploy" / "slurm.sbatch"
STUDY = {
    "study": "walk",
    "trial": {"model": {"kind": "synthetic", "seconds_per_epoch": 1.0}, "data": {"source": "synthetic"}},
    "space": {"optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 2, "epochs": 8},
}


def submit(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start the job in a folder that has a study and an environment to activate."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW"))}
    environment |= {
        "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "4217", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "1",
        "PYTHONPATH": str(ROOT), "STAND_INS": str(folder / "bin"), **variables,
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(SCRIPT), "walk.yaml"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submit directory: study, virtual environment, and stand-ins for SLURM's programs that come first in PATH."""
    (tmp_path / "walk.yaml").write_text(yaml.safe_dump(STUDY))
    stand_ins, activate = tmp_path / "bin", tmp_path / ".venv" / "bin" / "activate"
    stand_ins.mkdir()
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="$STAND_INS:{Path(sys.executable).parent}:$PATH"\n')
    for name, body in {"srun": 'exec taskset --cpu-list 0 "$@"', "scontrol": 'echo "scontrol $*"'}.items():
        (stand_ins / name).write_text(f"#!/bin/bash\n{body}\n")
        (stand_ins / name).chmod(0o755)
    return tmp_path


def epochs(folder: Path) -> int:
    journal = folder / "runs" / "walk" / "journal"
    return sum(isinstance(event, EpochReported) for event in read(journal)) if journal.exists() else 0


@pytest.mark.slow
def test_a_job_that_runs_out_of_time_is_queued_again_and_continues(folder: Path) -> None:
    job = submit(folder)
    deadline = time.monotonic() + 120
    while epochs(folder) < 2:
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    job.send_signal(signal.SIGUSR1)
    printed, _ = job.communicate(timeout=120)
    assert "2 trials wait to be resumed" in printed or "1 trial waits to be resumed" in printed
    assert "scontrol requeue 4217" in printed
    assert job.returncode == 130
    done = epochs(folder)
    assert done < 16

    job = submit(folder)
    printed, _ = job.communicate(timeout=240)
    assert job.returncode == 0, printed
    assert "scontrol" not in printed
    assert epochs(folder) == 16  # none was trained twice
    assert sum(isinstance(event, TrialEnded) for event in read(folder / "runs" / "walk" / "journal")) == 2
    assert "1 at once" in printed  # the job's one core, not the machine's


def test_a_search_that_is_refused_is_not_queued_again(folder: Path) -> None:
    (folder / "walk.yaml").write_text("study: walk\n")
    job = submit(folder)
    printed, _ = job.communicate(timeout=120)
    assert job.returncode == 2
    assert "budget" in printed
    assert "scontrol" not in printed
