"""The wide ResNets for small images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from trainables.config.network import SMALL, Network, path_or_none

__all__ = ["WideResNet"]


class WideResNet(Network):
    """The pre-activation networks of Zagoruyko and Komodakis 2016: stages of 16, 32 and 64 times `width` channels.

    `depth` is counted as in their WRN-depth-width: 6n+4 are all convolutions, of the stem, of three stages of n blocks
    and of the three shortcuts that change shape, without the linear layer. WRN-28-10 is {depth: 28, width: 10}; width 1
    is He et al. 2016's ResNet with identity mappings. `dropout` stands between the two convolutions of each block.
    `pretrained` is `none` or the path of a state dict. `frozen_stages` counts from the input: 1 freezes the stem, 2 to
    4 the three stages behind it; it must be 0 unless `pretrained` names weights.
    """

    architecture_keys: ClassVar[str] = "kind, depth, width and norm"
    stage_count: ClassVar[int] = 4  # the stem and three stages

    kind: Literal["wide_resnet"] = "wide_resnet"
    depth: Annotated[int, Field(ge=10, le=1204)] = 16
    width: Annotated[int, Field(ge=1, le=32)] = 4

    @field_validator("depth")
    @classmethod
    def _six_n_plus_four(cls, depth: int) -> int:
        if depth % 6 != 4:
            below = depth - (depth - 4) % 6
            raise ValueError(f"must be 6n+4, for example {max(below, 10)} or {below + 6}")
        return depth

    _no_published_weights = field_validator("pretrained")(path_or_none)

    @property
    def effective_depth(self) -> int:
        """Layers and additions on the shortest way from image to output: stem, an addition a block, the shortcuts that
        change shape, linear layer.
        """
        return (self.depth - 4) // 2 + (3 if self.width > 1 else 2) + 2

    @property
    def label(self) -> str:
        """The network in words."""
        return f"{self.kind} of depth {self.depth} and width {self.width} with {self.norm} norm"

    @property
    def native_side(self) -> int:
        """The side of the images that the network is meant for, in pixels."""
        return SMALL
