"""A network as an MLflow model, for `mlflow models predict`, `serve`, `build-docker` and the model registry."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from trainables.config import ConfigError
from trainables.files import write_text
from trainables.prediction.card import model_card
from trainables.prediction.folder import export_model
from trainables.prediction.trained import TrainedNetwork

__all__ = ["export_mlflow_model"]

USAGE = """\
    python to_json.py IMAGE... > images.json
    mlflow models predict -m . -i images.json -t json --env-manager local

The model takes a column `image` of encoded images (bytes; base64 in JSON) and gives `class`, `probability` and
`logits`. It needs what requirements.txt names; with `--env-manager virtualenv` MLflow installs it."""

TO_JSON = '''\
"""`python to_json.py IMAGE... > images.json`: image files as `mlflow models predict` and `serve` take them."""

import base64, json, sys
from pathlib import Path

rows = [{"image": base64.b64encode(Path(name).read_bytes()).decode()} for name in sys.argv[1:]]
print(json.dumps({"dataframe_records": rows}))
'''


def export_mlflow_model(trained: TrainedNetwork, folder: Path, numbers: Sequence[str] = ()) -> list[Path]:
    """Write an MLflow model of the pyfunc flavor around the network as a `pt2` program.

    Raises:
        ConfigError: as `export_model`, or if `folder` has something in it.
    """
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec

    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError.single("--to", str(folder), "must be a folder that is empty or does not exist yet")
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "class"), ColSpec(DataType.double, "probability"),
        ColSpec(Array(DataType.double), "logits"),
    ]  # fmt: skip
    signature = ModelSignature(Schema([ColSpec(DataType.binary, "image")]), Schema(outputs))
    packages = ("mlflow", "pandas", "pillow", "torch", "torchvision")
    with tempfile.TemporaryDirectory() as scratch:
        inner = Path(scratch, "model")
        export_model(trained, "pt2", inner, numbers)
        with warnings.catch_warnings():  # about an example of the input, which the signature does without
            warnings.simplefilter("ignore", UserWarning)
            mlflow.pyfunc.save_model(
                folder, python_model=str(Path(__file__).with_name("served_model.py")), artifacts={"model": str(inner)},
                signature=signature, pip_requirements=[f"{name}=={version(name)}" for name in packages],
            )  # fmt: skip
    write_text(folder / "to_json.py", TO_JSON)
    write_text(folder / "README.md", model_card(trained, USAGE, numbers))
    return [folder / "MLmodel", folder / "to_json.py", folder / "README.md"]
