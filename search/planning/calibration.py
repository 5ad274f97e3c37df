"""How long a search takes on this machine: a few steps are timed beside as many others as there will be trials at once.

Trials that run at once slow each other down, and what else the machine does slows down all of them; so on the CPU a
process for each of them trains at the same time. How long these take until they train tells how long a search takes.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from search.planning.disk import checkpoint_bytes
from search.study.spec import StudySpec
from trainables.config import TrialConfig, parse_config
from trainables.config.plugins import allow_plugins, allowed_plugins
from trainables.cpu import available_cpus

__all__ = ["Calibration", "Plan", "calibrate"]

# Enough for a stable rate, little enough to wait for: short epochs are timed, from the second on, for a few seconds,
# since what else a busy machine does comes and goes.
STEPS = 3
MOST_EPOCHS = 10
TIMED_SECONDS = 3.0
EVALUATION = 256
PROCESS_SECONDS = 6.0  # that a process with torch takes to start on an idle machine, where that is not measured
# Ray's processes, the driver and workers that load Ray beside torch, against a process that loads torch alone.
STARTS = 2.5
MOST_PROCESSES = 16  # of half a gigabyte each
BETWEEN_TRIALS = 0.3  # seconds that a worker waits for its next trial


@dataclass(frozen=True)
class Calibration:
    """What one epoch takes beside the other trials (None: not known), and the bytes of one checkpoint.

    `trial_seconds` is what a trial takes beside its epochs, `process_seconds` a process until it trains, and
    `first_step_seconds` its first step more than a later one, of which one that compiles makes minutes. `image_seconds`
    is what a network takes to score an image, of which the test split has `test_images`. `of` says what was timed.
    """

    epoch_seconds: float | None
    checkpoint_bytes: int
    trial_seconds: float = BETWEEN_TRIALS
    process_seconds: float = PROCESS_SECONDS
    first_step_seconds: float = 0.0
    image_seconds: float = 0.0
    test_images: int = 0
    of: str = "the trial defaults"

    @property
    def start_seconds(self) -> float:
        """What a search does before its first step."""
        return STARTS * self.process_seconds + self.first_step_seconds

    def seconds(self, epochs: float, trials: int, at_once: float) -> float | None:
        """How long a search takes until its report is written; None if that is not known.

        Args:
            epochs: of all its trials together.
            trials: how many there are.
            at_once: how many of them run beside each other.
        """
        if self.epoch_seconds is None:
            return None
        runs = epochs * self.epoch_seconds + trials * self.trial_seconds
        return self.start_seconds + runs / at_once + self.process_seconds  # the report loads about as much as scoring

    def refit_seconds(self, epochs: int, runs: int, at_once: float, scored: int) -> float | None:
        """How much longer with a refit of so many runs, after which a process scores the winner on the test split.

        `epochs` is how many a run has, `scored` how many images are scored, each network's counted.
        """
        if self.epoch_seconds is None:
            return None
        trained = runs * (epochs * self.epoch_seconds + self.trial_seconds)
        return (trained + scored * self.image_seconds) / at_once + self.process_seconds


@dataclass(frozen=True)
class Plan:
    """What a study would do: `concurrent` trials at once, on `nodes` of each type (empty if nothing has a price).

    `calibration` is that of the search's trials, `own` that of the refit's runs where a proxy makes them others.
    `images` describes the prepared images in three lines for each source, `weights` what is loaded of pretrained
    weights, `prior` from which trials of earlier studies the searcher learns.
    """

    spec: StudySpec
    concurrent: int
    calibration: Calibration
    nodes: Mapping[str, int]
    images: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    prior: tuple[str, ...] = ()
    own: Calibration | None = None


@dataclass(frozen=True)
class Timing:
    """Of one process: seconds of an epoch, of the first step beyond a later one, and of what surrounds a trial.

    `image` is seconds of a scored image, `test_images` how many the test split has. `ready` is when it began to train,
    by the clock that all processes of the machine share.
    """

    epoch: float
    first: float
    around: float
    image: float
    test_images: int
    ready: float
    checkpoint_bytes: int


def calibrate(config: TrialConfig, cache: Path, concurrent: int = 1) -> Calibration:
    """Time a few steps of `config` on this machine, its device and threads; not for a GPU that only others have.

    Args:
        config: a trial's, everything decided that it left to the machine.
        cache: of prepared images.
        concurrent: how many trials run at once. On a GPU one is timed alone.
    """
    if config.model.epoch_seconds is not None:
        return Calibration(config.model.epoch_seconds, checkpoint_bytes(config, cache))
    import torch

    if config.execution.device == "cuda":
        if not torch.cuda.is_available():
            return Calibration(None, checkpoint_bytes(config, cache))
        alone = timed(config, cache)
        return Calibration(
            alone.epoch, alone.checkpoint_bytes, BETWEEN_TRIALS + alone.around, image_seconds=alone.image,
            test_images=alone.test_images,
        )  # fmt: skip
    here = max(1, min(concurrent, available_cpus() // (config.execution.threads or 1), MOST_PROCESSES))
    begun = time.monotonic()
    timings = _together(config, cache, here) or [timed(config, cache)]  # which says what is wrong, if anything is
    return Calibration(
        fmean(timing.epoch for timing in timings), timings[0].checkpoint_bytes,
        BETWEEN_TRIALS + fmean(timing.around for timing in timings),
        fmean(timing.ready - begun for timing in timings), fmean(timing.first for timing in timings),
        fmean(timing.image for timing in timings), timings[0].test_images,
    )  # fmt: skip


def timed(config: TrialConfig, cache: Path) -> Timing:
    """Train short epochs in this process; all but the first one count, and so does the second network that is built."""
    import torch

    from trainables.data.images import load_splits
    from trainables.training.execution import configured
    from trainables.training.loop import Run

    whole = load_splits(config.data, cache)
    images = len(whole.train)
    tree = config.model_dump()
    tree["data"]["train_samples"] = min(STEPS * config.batch_size, images)
    tree["data"]["val_samples"] = min(EVALUATION, len(whole.val))
    tree["data"]["train_eval_samples"] = min(EVALUATION, config.data.train_eval_samples)
    tree["epochs"] = MOST_EPOCHS
    short = TrialConfig.model_validate(tree)
    splits = load_splits(short.data, cache)
    with configured(short.execution):
        run = Run(short, splits)
        ready = time.monotonic()
        results = []
        for result in run.epochs():
            results.append(result)
            if len(results) > 1 and time.monotonic() - ready > TIMED_SECONDS:
                break
        trained = time.monotonic()
        Run(short, splits)
        buffer = io.BytesIO()
        torch.save(run.state_dict(), buffer)
        around = time.monotonic() - trained
    counted = results[1:] or results  # where it diverges at once
    batch = min(short.batch_size, len(splits.train))
    taken = len(splits.train) // batch * batch  # a last batch that is not full is left out
    training = fmean(1 / result.images_per_second for result in counted)  # of an image
    whole_epoch = fmean(result.seconds for result in counted)
    evaluation = max(whole_epoch - taken * training, 0.0)
    scored = len(splits.val) + min(short.data.train_eval_samples, len(splits.train))
    evaluated = len(whole.val) + min(config.data.train_eval_samples, images)
    seconds = images * training + evaluation * evaluated / scored
    return Timing(
        seconds, max(results[0].seconds - whole_epoch, 0.0), around, evaluation / scored,
        whole.store.counts.get("test", 0), ready, buffer.tell(),
    )  # fmt: skip


def _together(config: TrialConfig, cache: Path, processes: int) -> Sequence[Timing]:
    """`timed` in so many processes at once; none if one of them failed.

    Processes of their own, not multiprocessing's, which would run a script again that has no `__main__` guard.
    """
    work = {"config": config.model_dump(mode="json"), "cache": str(cache), "plugins": list(allowed_plugins())}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command, pipe = [sys.executable, "-m", "search.planning.calibration"], subprocess.PIPE
    started = [
        subprocess.Popen(  # noqa: S603 (fixed arguments)
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, text=True
        )
        for _ in range(processes)
    ]
    try:
        for process in started:
            with suppress(BrokenPipeError):  # it has failed, which shows below
                if process.stdin is not None:
                    process.stdin.write(json.dumps(work))
                    process.stdin.close()
        printed = [process.stdout.read() if process.stdout is not None else "" for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    lines = [text.splitlines()[-1:] for text in printed]
    return [Timing(**json.loads(line)) for found in lines for line in found] if all(lines) else []


def _main() -> None:
    """What a process of `_together` does: reads its work, prints its timing."""
    work = json.loads(sys.stdin.read())
    allow_plugins(work["plugins"])
    print(json.dumps(asdict(timed(parse_config(work["config"]), Path(work["cache"])))))  # noqa: T201


if __name__ == "__main__":
    _main()
