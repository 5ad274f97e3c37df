"""`TrialConfig`, the whole of a trial, and its way in and out of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.images import Augment, Data, canonical_source
from trainables.config.model import Model
from trainables.config.network import CifarResNet
from trainables.config.optimization import SGD, Cosine, Optimizer, Schedule
from trainables.config.part import Count, Part, Positive
from trainables.config.plain_yaml import dump_yaml, load_yaml
from trainables.config.problems import ConfigError, validate

__all__ = [
    "Execution", "Regularization", "TrialConfig", "dump_config", "load_config", "parse_config",
    "with_source",
]  # fmt: skip


class Regularization(Part):
    """What keeps a network from memorizing, beside augmentation and weight decay.

    `ema_decay` averages the weights (0 is off); metrics are then the average's. `clip_norm` clips the gradient's L2
    norm. `patience` ends the trial after so many epochs without a better val_loss; whenever it ends, it then leaves the
    weights of the epoch with the lowest. `class_weights` weights the loss by inverse class frequency, a weighted mean
    as torch's, `balanced_sampling` draws every class equally often.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    imbalance: Literal["none", "class_weights", "balanced_sampling"] = "none"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Positive | None = None
    patience: Count | None = None


class Execution(Part):
    """How the arithmetic is done; fixed for a study, since it changes the last digits.

    `auto` and null are replaced by what the machine has when a study starts; a recorded config holds the real values.
    `precision` is that of convolutions and matrix products: bf16 where every device multiplies bfloat16 in hardware
    (CPUs with AMX or AVX512_BF16, GPUs from compute capability 8.0 on), fp32 elsewhere. Weights are float32 with
    either. A GPU's fp32 is TF32, where it has that.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class TrialConfig(Part):
    """All that determines a trial's numbers: on the CPU, the same config, versions and threads give the same ones.

    `loss` is what is trained on; `val_loss` is the cross-entropy with either. `bce` is binary cross-entropy, each class
    for itself, the mean over classes (Wightman et al. 2021, arXiv:2110.00476).
    """

    model: Model = CifarResNet()
    data: Data = Data()
    augment: Augment = Augment()
    optimizer: Optimizer = SGD()
    schedule: Schedule = Cosine()
    # A key that was added later is left out of dumps unless it is set: what a config is has not changed since.
    loss: Annotated[Literal["cross_entropy", "bce"], Field(exclude_if=lambda loss: loss == "cross_entropy")] = (
        "cross_entropy"
    )
    regularization: Regularization = Regularization()
    batch_size: Count = 128
    epochs: Count = 10
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    execution: Execution = Execution()

    @field_validator("augment")
    @classmethod
    def _digits_are_not_flipped(cls, augment: Augment, info: ValidationInfo) -> Augment:
        data = info.data.get("data")
        if augment.flip and data is not None and data.source == "digits":
            raise ValueError("`flip` must be false for digits: a mirrored digit is no digit")
        return augment


def parse_config(tree: Mapping[str, Any]) -> TrialConfig:
    """Build a config from nested dicts as YAML gives them.

    Raises:
        ConfigError: with every mistake at once, each with path, value, rule and, for an unknown key, the nearest one.
    """
    return validate(TrialConfig, tree)


def with_source(config: TrialConfig, source: str) -> TrialConfig:
    """`config` with the images of `source`; other ones without the columns, groups and exclusions of those it had.

    Raises:
        ConfigError: if there is no such source.
    """
    data = config.model_dump(mode="json")["data"]
    if canonical_source(source) != canonical_source(config.data.source):
        data = {key: value for key, value in data.items() if key not in ("columns", "group_by", "exclude")}
    return parse_config({**config.model_dump(mode="json"), "data": {**data, "source": source}})


def load_config(path: Path) -> TrialConfig:
    """Read a config from YAML: a bare TrialConfig, or a best_config.yaml, which holds one under `config`.

    Raises:
        ConfigError: if the file is missing, is not YAML, or holds an invalid config.
    """
    tree = load_yaml(path)
    if not isinstance(tree, dict):
        raise ConfigError.single(str(path), tree, "must hold a mapping of TrialConfig keys")
    return parse_config(tree.get("config", tree))


def dump_config(config: TrialConfig) -> str:
    """The config as YAML that `load_config` reads back to an equal config."""
    return dump_yaml(config.model_dump(mode="json"))
