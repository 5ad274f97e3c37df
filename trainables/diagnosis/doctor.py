"""The model doctor as it is called: a file in, checks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.check import Check
from trainables.data.images import load_splits
from trainables.diagnosis.examination import examined
from trainables.diagnosis.finding import ranked
from trainables.diagnosis.opening import config_at, opened
from trainables.diagnosis.predictions import LIST, read_predictions, write_images
from trainables.diagnosis.preprocessing import reproduced
from trainables.diagnosis.subject import Say
from trainables.training.execution import configured

__all__ = ["diagnosed", "written_images"]


def diagnosed(
    path: Path, data: str | None, device: str, cache: Path, say: Say,
    history: Sequence[Mapping[str, float]] = (), predictions: Path | None = None,
) -> list[Check]:  # fmt: skip
    """Every check of a checkpoint or a config, the cause first.

    With predictions of another pipeline it is only asked how that one prepares images.

    Args:
        path: a checkpoint, or a config as YAML.
        data: other images than the config's.
        device: auto, cpu or cuda.
        cache: of the prepared images.
        say: is told what is being tried.
        history: the metrics of each epoch, where they are known.
        predictions: a CSV of another pipeline's.

    Raises:
        ConfigError: if something cannot be read or does not fit together.
    """
    config, _ = config_at(path, data, device)
    with configured(config.execution):
        theirs = None if predictions is None else read_predictions(predictions, load_splits(config.data, cache))
        subject = opened(path, data, device, cache, say, history)
        if theirs is not None:
            return ranked([reproduced(subject, theirs, say)])
        return examined(subject, say)


def written_images(path: Path, data: str | None, cache: Path, folder: Path) -> Check:
    """Write the validation images of a checkpoint or a config for another pipeline, and say where they are.

    Raises:
        ConfigError: if the folder cannot be written to.
    """
    config, _ = config_at(path, data, "cpu")
    count = write_images(load_splits(config.data, cache), folder)
    return Check("validation images", "ok", f"{count:,} and their list, {LIST}, are in {folder}")
