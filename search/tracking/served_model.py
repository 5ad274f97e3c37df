"""What runs inside an exported MLflow model: images in, classes out. A copy of this file travels with the model.

It imports MLflow and what `load.py` of the folder beside it needs, and nothing of this package.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

__all__ = ["ImageClassifier"]

AT_ONCE = 64


class ImageClassifier(PythonModel):
    """Takes a column `image` of encoded images; gives `class`, `probability` and `logits`, a row an image."""

    def load_context(self, context: Any) -> None:
        """Load the program of the folder, and the way in which it prepares images."""
        file = Path(context.artifacts["model"]) / "load.py"
        spec = importlib.util.spec_from_file_location("resnet_search_exported", file)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(file)
        self.exported: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.exported)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify images, a few at a time: all of them may not fit into memory."""
        files = [io.BytesIO(encoded) for encoded in model_input["image"]]
        found = []
        with torch.inference_mode():
            for start in range(0, len(files), AT_ONCE):
                pixels = torch.stack([self.exported.prepare(file) for file in files[start : start + AT_ONCE]])
                found.append(self.exported.logits(pixels))
        logits = torch.cat(found)
        best = logits.softmax(1).max(1)
        names = [self.exported.META["class_names"][label] for label in best.indices.tolist()]
        return pd.DataFrame({"class": names, "probability": best.values.tolist(), "logits": logits.tolist()})


set_model(ImageClassifier())
