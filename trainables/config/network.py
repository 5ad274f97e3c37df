"""The networks a trial may train."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.arguments import arguments_of
from trainables.config.hints import NONE_WORDS
from trainables.config.part import Count, Part, Positive, Whole
from trainables.config.plugins import checked_settings, is_recorded, load_plugin

__all__ = [
    "LARGE", "SMALL", "VARIANTS", "CifarResNet", "Network", "PluginModel", "SyntheticCurve", "TorchvisionResNet",
    "is_published", "needs_weights", "not_none", "path_or_none",
]  # fmt: skip

SMALL, LARGE = 32, 224  # pixels a side: the images of CIFAR, and those that ImageNet's networks are trained on
PUBLISHERS = ("torchvision", "timm")
BLOCKS = {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}  # residual blocks of torchvision's networks, by depth
# What torchvision calls its wide networks (Zagoruyko and Komodakis 2016) and ResNeXts (Xie et al. 2017).
VARIANTS = {
    ("wide", 50): "wide_resnet50_2", ("wide", 101): "wide_resnet101_2",
    ("resnext_32x4d", 50): "resnext50_32x4d", ("resnext_32x8d", 101): "resnext101_32x8d",
    ("resnext_64x4d", 101): "resnext101_64x4d",
}  # fmt: skip


def is_published(pretrained: str) -> bool:
    """Whether `pretrained` names weights that a library publishes (`torchvision:DEFAULT`, `timm`), and no file."""
    return pretrained.split(":")[0] in PUBLISHERS


def needs_weights(stages: int, info: ValidationInfo) -> int:
    """The rule that stages are frozen only with pretrained weights."""
    if stages and info.data.get("pretrained", "") == "none":
        raise ValueError("must be 0 unless `pretrained` names weights: a frozen random layer never learns")
    return stages


def path_or_none(pretrained: str) -> str:
    """The rule of models that no library publishes weights for."""
    if is_published(pretrained):
        publisher = pretrained.split(":")[0]
        raise ValueError(f"must be 'none' or a path: {publisher} publishes no weights for this model")
    return pretrained


def not_none(pretrained: str) -> str:
    """The rule that no weights are called `none`."""
    if pretrained in NONE_WORDS and pretrained != "none":
        raise ValueError("must be 'none' for no weights, the path of a state dict, or torchvision:NAME")
    return pretrained


class Network(Part):
    """What every ResNet of ours and torchvision's has."""

    is_network: ClassVar[bool] = True
    epoch_seconds: ClassVar[float | None] = None  # not known before it is timed
    stage_count: ClassVar[int]  # the stem among them

    norm: Literal["batch", "group"] = "batch"
    norm_groups: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    zero_init_residual: bool = False
    pretrained: Annotated[str, "none"] = "none"
    frozen_stages: Whole = 0

    _none_is_a_word = field_validator("pretrained")(not_none)
    _frozen_needs_weights = field_validator("frozen_stages")(needs_weights)

    @field_validator("frozen_stages")
    @classmethod
    def _stages_exist(cls, stages: int) -> int:
        if stages > cls.stage_count:
            behind = {4: "three", 5: "four"}[cls.stage_count]
            raise ValueError(f"must be at most {cls.stage_count}: the stem and {behind} stages")
        return stages


class CifarResNet(Network):
    """The 6n+2-layer networks of He et al. 2015, section 4.2, for small images: 16-32-64 channels, shortcut option A.

    `pretrained` is `none` or the path of a state dict. `frozen_stages` counts from the input: 1 freezes the stem, 2 to
    4 the three stages behind it; it must be 0 unless `pretrained` names weights.
    """

    architecture_keys: ClassVar[str] = "kind, depth, norm"
    stage_count: ClassVar[int] = 4  # the stem and three stages

    kind: Literal["cifar_resnet"] = "cifar_resnet"
    depth: Annotated[int, Field(ge=8, le=1202)] = 20

    @field_validator("depth")
    @classmethod
    def _six_n_plus_two(cls, depth: int) -> int:
        if depth % 6 != 2:
            below = depth - (depth - 2) % 6
            raise ValueError(f"must be 6n+2, for example {max(below, 8)} or {below + 6}")
        return depth

    _no_published_weights = field_validator("pretrained")(path_or_none)

    @property
    def effective_depth(self) -> int:
        """Layers and additions on the shortest way from image to output: stem, an addition a block, linear layer."""
        return (self.depth - 2) // 2 + 2

    @property
    def label(self) -> str:
        """The network in words."""
        return f"{self.kind} of depth {self.depth} with {self.norm} norm"

    @property
    def native_side(self) -> int:
        """The side of the images that the network is meant for, in pixels."""
        return SMALL


class TorchvisionResNet(Network):
    """torchvision's ResNet of He et al. 2015, section 4.1 (bottlenecks with the stride in the 3x3: "v1.5").

    `variant` is `wide` (inner channels doubled, depth 50 or 101) or a ResNeXt by its groups and their width:
    `resnext_32x4d` (50), `resnext_32x8d` or `resnext_64x4d` (101).
    `small_images` replaces the 7x7 stride-2 stem and its pooling by a 3x3 stride-1 one, for 32 x 32 input.
    `pretrained` is `none`, the path of a state dict, or `torchvision:NAME` (`torchvision:IMAGENET1K_V2`,
    `torchvision:DEFAULT`). `frozen_stages` counts from the input: 1 freezes the stem, 2 to 5 the stages behind
    it; it must be 0 unless `pretrained` names weights.
    """

    architecture_keys: ClassVar[str] = "kind, depth, norm, variant and small_images"
    stage_count: ClassVar[int] = 5  # the stem and four stages

    kind: Literal["torchvision_resnet"] = "torchvision_resnet"
    depth: Literal[18, 34, 50, 101, 152] = 50
    # A key that was added later is left out of dumps unless it is set: what a study is has not changed since.
    variant: Annotated[
        Literal["standard", "wide", "resnext_32x4d", "resnext_32x8d", "resnext_64x4d"],
        Field(exclude_if=lambda variant: variant == "standard"),
    ] = "standard"
    small_images: bool = False

    @field_validator("variant")
    @classmethod
    def _variant_exists(cls, variant: str, info: ValidationInfo) -> str:
        depths = [depth for name, depth in VARIANTS if name == variant]
        if variant != "standard" and "depth" in info.data and info.data["depth"] not in depths:
            found = " or ".join(map(str, depths))
            raise ValueError(f"must be standard, or go with model.depth {found}, where torchvision has {variant}")
        return variant

    @property
    def effective_depth(self) -> int:
        """Layers and additions on the shortest way from image to output: stem, an addition a block, the shortcuts that
        change shape, linear layer.
        """
        return BLOCKS[self.depth] + (3 if self.depth < 50 else 4) + 2

    @property
    def label(self) -> str:
        """The network in words."""
        variant = "" if self.variant == "standard" else f" and variant {self.variant}"
        return f"{self.kind} of depth {self.depth}{variant} with {self.norm} norm"

    @property
    def torchvision_name(self) -> str:
        """What `torchvision.models` calls it."""
        return VARIANTS.get((self.variant, self.depth), f"resnet{self.depth}")

    @property
    def native_side(self) -> int:
        """The side of the images that the network is meant for, in pixels."""
        return SMALL if self.small_images else LARGE


class PluginModel(Part):
    """A network of another package: `kind` is its entry point or dotted path, `settings` are what that takes.

    docs/plugins.md says what `kind` must name. `pretrained` is `none` or the path of a state dict; `frozen_stages`
    counts the stages that the plug-in declares, from the input, and must be 0 unless `pretrained` names weights.
    """

    is_network: ClassVar[bool] = True
    epoch_seconds: ClassVar[float | None] = None
    architecture_keys: ClassVar[str] = "kind and settings"
    stage_count: ClassVar[int | None] = None  # known once it is built
    native_side: ClassVar[int] = LARGE

    kind: str
    settings: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)
    pretrained: Annotated[str, "none"] = "none"
    frozen_stages: Whole = 0

    _no_published_weights = field_validator("pretrained")(path_or_none)
    _none_is_a_word = field_validator("pretrained")(not_none)
    _frozen_needs_weights = field_validator("frozen_stages")(needs_weights)

    @field_validator("kind")
    @classmethod
    def _exists(cls, kind: str) -> str:
        if not is_recorded(kind):
            build = load_plugin("model", kind)
            if not callable(build):
                raise ValueError("must name a class or function that is called as build(num_classes=10, ...)")
            arguments_of(build)
        return kind

    @field_validator("settings")
    @classmethod
    def _complete(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """The settings with the plug-in's defaults filled in, as plain data: what a study is recorded with."""
        if "kind" not in info.data or is_recorded(info.data["kind"]):
            return settings
        if "num_classes" in settings:
            raise ValueError("must be without num_classes, which is the number of the images' classes")
        model = arguments_of(load_plugin("model", info.data["kind"]))
        if missing := [
            name for name, field in model.model_fields.items() if field.is_required() and name not in settings
        ]:
            own = f"def build(num_classes): return {model.__name__}({missing[0]}=..., num_classes=num_classes)"
            raise ValueError(f"must have {', '.join(missing)}, or `kind` be a function that passes them: {own}")
        return checked_settings(model, settings).model_dump(mode="json")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def label(self) -> str:
        """The network in words."""
        return f"network of the plug-in {self.kind}"


class SyntheticCurve(Part):
    """No network but a closed-form learning curve with a known optimum, for tests and simulated searches.

    `seconds_per_epoch` is slept through at each epoch; `diverge_above` is the learning rate from which the loss
    becomes NaN.
    """

    is_network: ClassVar[bool] = False
    architecture_keys: ClassVar[str] = "kind"
    pretrained: ClassVar[str] = "none"
    frozen_stages: ClassVar[int] = 0
    stage_count: ClassVar[int] = 0
    label: ClassVar[str] = "learning curve without a network"
    native_side: ClassVar[int] = LARGE

    kind: Literal["synthetic"] = "synthetic"
    seconds_per_epoch: Annotated[float, Field(ge=0, le=3600)] = 0.0
    diverge_above: Positive = 5.0

    @property
    def epoch_seconds(self) -> float:
        """How long an epoch takes."""
        return max(self.seconds_per_epoch, 1e-3)
