"""`search.run` with trials that have accidents.

    python -m tests.search.faulty_search FAULT TRIAL EPOCH TIMES FOLDER ...

The rest of the arguments are those of `search.run`. The fault happens in the worker, after TRIAL was asked for EPOCH,
at most TIMES times, which is counted by files in FOLDER.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from search.run import run
from search.tune import session
from search.tune.adapters import TuneContext
from search.tune.leg import LegReport
from search.tune.trainable import ResNetTrial
from trainables.cli import run_verb

MEMORY = 8 << 30  # bytes


class FaultyTrial(ResNetTrial):
    """A trial that has the accident which the driver's command line named."""

    def step(self) -> dict[str, Any]:
        fault, trial, epoch, times, folder = os.environ["FAULT"].split(":")
        result: dict[str, Any] = super().step()
        report = LegReport.from_dict(result)
        happened = len(list(Path(folder).iterdir()))
        if (self._leg.trial, report.result and report.result.epoch) != (int(trial), int(epoch)) or happened >= int(
            times
        ):
            return result
        (Path(folder) / str(happened)).touch()
        match fault:
            case "raise":
                raise ValueError("the disk of the images has a bad block")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case "memory":
                taken = []
                while sum(map(len, taken)) < MEMORY:  # written to, or it would take no memory
                    taken.append(b"x" * (64 << 20))
                    time.sleep(0.02)
                time.sleep(600)
        return result


def main() -> None:
    fault, trial, epoch, times, folder = sys.argv[1:6]
    os.environ["FAULT"] = ":".join((fault, trial, epoch, times, folder))  # for the workers, which inherit it
    del sys.argv[1:6]
    with_faults = session.run_trials

    def run_trials(context: TuneContext) -> None:
        with_faults(context, FaultyTrial)

    session.run_trials = run_trials  # type: ignore[assignment]
    run_verb(run)


if __name__ == "__main__":
    # Not as __main__, which a worker cannot import.
    from tests.search import faulty_search

    faulty_search.main()
