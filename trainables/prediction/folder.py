"""An exported folder: the network in one form, the program that loads it, and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from trainables.config import ConfigError
from trainables.files import write_text
from trainables.prediction.card import model_card
from trainables.prediction.formats import FORMATS, FormatName, write_model
from trainables.prediction.loader import loader
from trainables.prediction.trained import TrainedNetwork

__all__ = ["NETWORKS", "export_model"]

NETWORKS = {path.stem: path for path in (Path(__file__).parent / "networks").glob("[!_]*.py")}


def export_model(trained: TrainedNetwork, name: FormatName, folder: Path, numbers: Sequence[str] = ()) -> list[Path]:
    """Write a network into `folder`, which is made if it is missing; files of the same names are replaced.

    Args:
        trained: the network.
        name: the form.
        folder: where to.
        numbers: lines of Markdown for the model card: what is known of how well it does, and from where.

    Returns:
        What was written, the network first.

    Raises:
        ConfigError: as `write_model`; if its weights have no definition that could travel with them; or if the folder
            cannot be written to.
    """
    kind = trained.config.model.kind
    if name == "weights" and kind not in NETWORKS:
        known = " and ".join(sorted(NETWORKS))
        rule = f"must be a program for {kind}, --format pt2 or onnx: weights alone need a definition, as {known} have"
        raise ConfigError.single("--format", name, rule)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [write_model(trained, name, folder)]
        if name == "weights":
            written.append(Path(shutil.copyfile(NETWORKS[kind], folder / "network.py")))
    except OSError as error:
        raise ConfigError.single("--to", str(folder), f"must be a folder to write to ({error.strerror})") from None
    usage = f"    python load.py IMAGE...\n\nIt needs {FORMATS[name].needs}."
    texts = {"load.py": loader(name, trained.preprocessing), "README.md": model_card(trained, usage, numbers)}
    for file, text in texts.items():
        write_text(folder / file, text)
        written.append(folder / file)
    return written
