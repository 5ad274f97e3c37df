"""What one trial is: `TrialConfig`, a frozen tree of pydantic models that YAML can express.

It holds what is *valid*; what is *searched* lives in `spaces`. Optimizer, schedule and model are unions tagged by
`kind`, so that a momentum on AdamW is an error and not a silently ignored key. This package imports no torch: reading
and checking a config costs milliseconds.
"""

from trainables.config.images import Augment, Data, Normalization
from trainables.config.model import Model
from trainables.config.network import CifarResNet, PluginModel, SyntheticCurve, TorchvisionResNet
from trainables.config.optimization import (
    LAMB,
    SGD,
    WSD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Cyclic,
    Lion,
    Muon,
    NAdamW,
    OneCycle,
    Optimizer,
    Plateau,
    RMSprop,
    Schedule,
    Step,
)
from trainables.config.part import Part
from trainables.config.plain_yaml import dump_yaml, load_yaml, parse_yaml
from trainables.config.problems import ConfigError, Missing, Problem, validate
from trainables.config.timm_model import TimmModel
from trainables.config.tree import checksum, flatten, merge, unflatten
from trainables.config.trial import (
    Execution,
    Regularization,
    TrialConfig,
    dump_config,
    load_config,
    parse_config,
    with_source,
)
from trainables.config.wide_resnet import WideResNet

__all__ = [
    "LAMB", "SGD", "WSD", "Adam", "AdamW", "Augment", "CifarResNet", "ConfigError", "Constant", "Cosine", "Cyclic",
    "Data", "Execution", "Lion", "Missing", "Model", "Muon", "NAdamW", "Normalization", "OneCycle", "Optimizer", "Part",
    "Plateau", "PluginModel", "Problem", "RMSprop", "Regularization", "Schedule", "Step", "SyntheticCurve", "TimmModel",
    "TorchvisionResNet", "TrialConfig", "WideResNet", "checksum", "dump_config", "dump_yaml", "flatten", "load_config",
    "load_yaml", "merge", "parse_config", "parse_yaml", "unflatten", "validate", "with_source",
]  # fmt: skip
