"""Networks of timm (pytorch-image-models), each by its name there.

Which names there are only timm itself can say: it is imported, and torch with it, when a config names one of them.
"""

from __future__ import annotations

import difflib
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.network import LARGE, SMALL, needs_weights, not_none
from trainables.config.part import Part, Whole

__all__ = ["TimmModel"]


class TimmModel(Part):
    """A network of timm with its own layers and initialization: `name` as `timm.list_models()` has it.

    `small_images` lets a ResNet (v1 or v2) keep the images' size up to its first stage, for 32 x 32 input: a 7x7 stem
    is replaced by a 3x3 one, its strides become 1 and its pooling is left out. `dropout` is timm's `drop_rate`, before
    the head; `drop_path` its `drop_path_rate`: the share of residual branches that are left out in the last block, and
    linearly fewer before it (Huang et al. 2016, "Deep Networks with Stochastic Depth").
    `pretrained` is `none`, the path of a state dict, `timm` for the published weights that timm takes by default, or
    `timm:TAG`. `frozen_stages` counts from the input: 1 freezes the stem; it must be 0 unless `pretrained` names
    weights.
    """

    is_network: ClassVar[bool] = True
    epoch_seconds: ClassVar[float | None] = None  # not known before it is timed
    architecture_keys: ClassVar[str] = "kind, name and small_images"
    stage_count: ClassVar[int | None] = None  # known once it is built

    kind: Literal["timm"] = "timm"
    name: str
    small_images: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pretrained: Annotated[str, "none"] = "none"
    frozen_stages: Whole = 0

    _none_is_a_word = field_validator("pretrained")(not_none)
    _frozen_needs_weights = field_validator("frozen_stages")(needs_weights)

    @field_validator("name")
    @classmethod
    def _is_timms(cls, name: str) -> str:
        import timm  # takes seconds, and brings torch: other models do without

        if timm.is_model(name) and "." not in name:
            return name
        architecture, _, tag = name.partition(".")
        if timm.is_model(architecture):
            raise ValueError(f"must be a name without a tag: write name: {architecture}, pretrained: timm:{tag}")
        close = difflib.get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.6)
        near = f"did you mean {', '.join(close)}?" if close else "timm.list_models('*resnet*') lists them"
        own = "a network of your own is FILE:FUNCTION, without .py, such as my_net:build"
        raise ValueError(f"must be a model of timm {timm.__version__}: {near}; {own}")

    @field_validator("pretrained")
    @classmethod
    def _is_published(cls, pretrained: str, info: ValidationInfo) -> str:
        import timm

        publisher, _, tag = pretrained.partition(":")
        if publisher == "torchvision":
            raise ValueError("must be 'none', a path, timm or timm:TAG: torchvision's weights are for its own networks")
        if publisher == "timm" and "name" in info.data:
            name = info.data["name"]
            tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
            if not tags:
                raise ValueError(f"must be 'none' or a path: timm publishes no weights for {name}")
            if tag and tag not in tags:
                raise ValueError(f"must be 'none', a path, or one of {', '.join(f'timm:{known}' for known in tags)}")
        return pretrained

    @property
    def label(self) -> str:
        """The network in words."""
        return f"{self.name} of timm" + (" for small images" if self.small_images else "")

    @property
    def native_side(self) -> int:
        """The side of the images that the network is meant for, in pixels."""
        return SMALL if self.small_images else LARGE
