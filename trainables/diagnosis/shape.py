"""Stems too coarse for the images: where nothing is left of a small image when the last stage begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.check import Check
from trainables.config import TorchvisionResNet
from trainables.config.trial import coarse_stem
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Subject
from trainables.models.protocol import stages

__all__ = ["final_map", "shape"]

NAME = "stem"
# What a stem that leaves one pixel costs, of the accuracy that is missing: assumed, since to try it takes minutes.
ASSUMED_GAIN = 0.3
WELL = 0.9  # accuracy above which the stem is none of the troubles


def final_map(model: nn.Module, images: Tensor) -> tuple[int, int] | None:
    """Height and width of what the last stage makes of images [b, 3, h, w]; None if the network does not say."""
    staged = stages(model)
    if not staged or not staged[-1]:
        return None
    seen: list[torch.Size] = []
    handle = staged[-1][-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    try:
        with torch.inference_mode():
            model.eval()(images)
    finally:
        handle.remove()
    return (seen[0][-2], seen[0][-1]) if seen and len(seen[0]) == 4 else None


def shape(subject: Subject) -> Finding:
    """Whether the last maps of the network are 1 x 1 on these images."""
    found = final_map(subject.model, subject.inputs(subject.splits.val, torch.arange(2)))
    if found is None:
        return Finding(Check(NAME, "unknown", "the network does not say what its stages are"))
    told = f"images of {subject.side} pixels end as maps of {found[0]} x {found[1]}"
    if max(found) > 1 or subject.val.accuracy >= WELL:
        return healthy(NAME, told)
    told = coarse_stem(subject.config, subject.splits.train.size) or told
    is_large = isinstance(subject.config.model, TorchvisionResNet) and not subject.config.model.small_images
    cure = "--set data.resolution=64; search: data.resolution: {choice: [64, 96]}"
    if is_large:
        cure = (
            "--set model.small_images=true, or for pretrained weights --set data.resolution=128; search: "
            "model.small_images: {choice: [false, true]}"
        )
    gain = ASSUMED_GAIN * (1 - subject.val.accuracy)
    return Finding(Check(NAME, "problem", told, cure), gain, Weight.SETTING)
