"""What pretrained weights a trial begins with, in words, and how they want its images."""

from __future__ import annotations

from trainables.config import Normalization, TrialConfig
from trainables.data.images import Images, PreparedData
from trainables.models.pretrained import check_pretrained, pretrained_scale

__all__ = ["normalization_for", "weights_lines"]


def normalization_for(config: TrialConfig, images: Images, store: PreparedData) -> Normalization:
    """The channel statistics a trial uses (decided by `data.normalize`): given, the weights', or the training split's.

    Args:
        config: the trial's.
        images: from which the scale that pretrained weights expect may be measured.
        store: they are from.
    """
    if isinstance(config.data.normalize, Normalization):
        return config.data.normalize
    own = Normalization(mean=store.mean, std=store.std)
    expected = pretrained_scale(config.model, images, own) if config.data.normalize == "auto" else None
    return own if expected is None else expected.normalization


def weights_lines(config: TrialConfig, images: Images, store: PreparedData) -> tuple[str, ...]:
    """What is loaded of pretrained weights; what is ignored and newly initialized, and how the input is scaled.

    Two lines; () without weights.

    Args:
        config: of the trial.
        images: of the training split, or those that are scored.
        store: they are from.

    Raises:
        ConfigError: if the weights cannot be had or do not fit.
    """
    loaded = check_pretrained(config.model, store.num_classes)
    if loaded is None:
        return ()
    first, second = loaded.lines
    expected = pretrained_scale(config.model, images, Normalization(mean=store.mean, std=store.std))
    words = "" if expected is None else expected.words
    if config.data.normalize != "auto":
        words = f"as data.normalize says; they expect {words}"
    return first, f"{second}; input: {words}"
