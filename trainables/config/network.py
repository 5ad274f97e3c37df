"""The networks a trial may train."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.part import Count, Part, Positive, Whole

__all__ = ["CifarResNet", "Model", "SyntheticCurve", "TorchvisionResNet"]


class _Network(Part):
    is_network: ClassVar[bool] = True

    norm: Literal["batch", "group"] = "batch"
    norm_groups: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    zero_init_residual: bool = False
    pretrained: str = "none"
    frozen_stages: Whole = 0

    @field_validator("frozen_stages")
    @classmethod
    def _frozen_needs_weights(cls, stages: int, info: ValidationInfo) -> int:
        if stages and info.data.get("pretrained", "") == "none":
            raise ValueError("must be 0 unless `pretrained` names weights: a frozen random layer never learns")
        return stages


class CifarResNet(_Network):
    """The 6n+2-layer networks of He et al. 2015, section 4.2, for small images: 16-32-64 channels, shortcut option A.

    `pretrained` is `none` or the path of a state dict. `frozen_stages` counts from the input: 1 freezes the stem, 2 to
    4 the three stages behind it.
    """

    kind: Literal["cifar_resnet"] = "cifar_resnet"
    depth: Annotated[int, Field(ge=8, le=1202)] = 20

    @field_validator("depth")
    @classmethod
    def _six_n_plus_two(cls, depth: int) -> int:
        if depth % 6 != 2:
            below = depth - (depth - 2) % 6
            raise ValueError(f"must be 6n+2, for example {max(below, 8)} or {below + 6}")
        return depth

    @field_validator("pretrained")
    @classmethod
    def _no_published_weights(cls, pretrained: str) -> str:
        if pretrained.startswith("torchvision:"):
            raise ValueError("must be 'none' or a path: torchvision publishes no weights for CIFAR ResNets")
        return pretrained

    @field_validator("frozen_stages")
    @classmethod
    def _stages_exist(cls, stages: int) -> int:
        if stages > 4:
            raise ValueError("must be at most 4: the stem and three stages")
        return stages


class TorchvisionResNet(_Network):
    """torchvision's ResNet of He et al. 2015, section 4.1 (bottlenecks with the stride in the 3x3: "v1.5").

    `small_images` replaces the 7x7 stride-2 stem and its pooling by a 3x3 stride-1 one, for 32 x 32 input.
    `pretrained` is `none`, the path of a state dict, or `torchvision:NAME` (`torchvision:IMAGENET1K_V2`,
    `torchvision:DEFAULT`). `frozen_stages` counts from the input: 1 freezes the stem, 2 to 5 the stages behind it.
    """

    kind: Literal["torchvision_resnet"] = "torchvision_resnet"
    depth: Literal[18, 34, 50, 101, 152] = 50
    small_images: bool = False

    @field_validator("frozen_stages")
    @classmethod
    def _stages_exist(cls, stages: int) -> int:
        if stages > 5:
            raise ValueError("must be at most 5: the stem and four stages")
        return stages


class SyntheticCurve(Part):
    """No network but a closed-form learning curve with a known optimum, for tests and simulated searches.

    `seconds_per_epoch` is slept through at each epoch; `diverge_above` is the learning rate from which the loss
    becomes NaN.
    """

    is_network: ClassVar[bool] = False

    kind: Literal["synthetic"] = "synthetic"
    seconds_per_epoch: Annotated[float, Field(ge=0, le=3600)] = 0.0
    diverge_above: Positive = 5.0


Model = Annotated[CifarResNet | TorchvisionResNet | SyntheticCurve, Field(discriminator="kind")]
