"""Stems too coarse for the images: where nothing is left of a small image when the last stage begins."""

from __future__ import annotations

import torch

from trainables.check import Check
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Subject
from trainables.models.cost import coarse_stem, final_map

__all__ = ["shape"]

NAME = "stem"
# What a stem that leaves one pixel costs, of the accuracy that is missing: assumed, since to try it takes minutes.
ASSUMED_GAIN = 0.3
WELL = 0.9  # accuracy above which the stem is none of the troubles


def shape(subject: Subject) -> Finding:
    """Whether the last maps of the network are 1 x 1 on these images."""
    found = final_map(subject.model, subject.inputs(subject.splits.val, torch.arange(2)))
    if found is None:
        return Finding(Check(NAME, "unknown", "the network does not say what its stages are"))
    told = f"images of {subject.side} pixels end as maps of {found[0]} x {found[1]}"
    if max(found) > 1 or subject.val.accuracy >= WELL:
        return healthy(NAME, told)
    told = coarse_stem(subject.config, subject.splits.train.size) or told
    cure = "--set data.resolution=64; search: data.resolution: {choice: [64, 96]}"
    if getattr(subject.config.model, "small_images", None) is False:
        cure = (
            "--set model.small_images=true, or for pretrained weights --set data.resolution=128; search: "
            "model.small_images: {choice: [false, true]}"
        )
    gain = ASSUMED_GAIN * (1 - subject.val.accuracy)
    return Finding(Check(NAME, "problem", told, cure), gain, Weight.SETTING)
