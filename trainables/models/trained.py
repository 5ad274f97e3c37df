"""The network that a checkpoint of this project holds."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainables.checkpoints.checkpoint import trained_weights
from trainables.config import TrialConfig
from trainables.models import build_model

__all__ = ["trained_network"]


def trained_network(config: TrialConfig, state: dict[str, Any]) -> nn.Module:
    """The network that a trial's metrics are of, on the CPU; nothing of it is frozen, and no other weights are read.

    Args:
        config: the checkpoint's.
        state: its content. What does not fit raises as `load_state_dict` does (`resume.translate_mismatch`).
    """
    bare = config.model.model_copy(update={"pretrained": "none", "frozen_stages": 0})
    network = build_model(bare, len(state["class_names"]))
    network.load_state_dict(trained_weights(state))
    return network
