"""The networks a trial may train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from trainables.config.hints import NONE_WORDS
from trainables.config.part import Count, Part, Positive, Whole
from trainables.config.plugins import is_dotted_path, load_plugin, plugin_names, plugin_settings

__all__ = ["CifarResNet", "Model", "PluginModel", "SyntheticCurve", "TorchvisionResNet"]

SMALL, LARGE = 32, 224  # pixels a side: the images of CIFAR, and those that ImageNet's networks are trained on
# Multiply-adds of one image at 224 pixels, in GFLOP, by depth (He et al. 2015, table 1).
_IMAGENET_GFLOPS = {18: 1.8, 34: 3.6, 50: 4.1, 101: 7.8, 152: 11.5}


def _needs_weights(stages: int, info: ValidationInfo) -> int:
    if stages and info.data.get("pretrained", "") == "none":
        raise ValueError("must be 0 unless `pretrained` names weights: a frozen random layer never learns")
    return stages


def _path_or_none(pretrained: str) -> str:
    if pretrained.startswith("torchvision:"):
        raise ValueError("must be 'none' or a path: torchvision publishes no weights for this model")
    return pretrained


def _not_none(pretrained: str) -> str:
    if pretrained in NONE_WORDS and pretrained != "none":
        raise ValueError("must be 'none' for no weights, the path of a state dict, or torchvision:NAME")
    return pretrained


class _Network(Part):
    is_network: ClassVar[bool] = True
    epoch_seconds: ClassVar[float | None] = None  # not known before it is timed

    norm: Literal["batch", "group"] = "batch"
    norm_groups: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    zero_init_residual: bool = False
    pretrained: Annotated[str, "none"] = "none"
    frozen_stages: Whole = 0

    _none_is_a_word = field_validator("pretrained")(_not_none)
    _frozen_needs_weights = field_validator("frozen_stages")(_needs_weights)


class CifarResNet(_Network):
    """The 6n+2-layer networks of He et al. 2015, section 4.2, for small images: 16-32-64 channels, shortcut option A.

    `pretrained` is `none` or the path of a state dict. `frozen_stages` counts from the input: 1 freezes the stem, 2 to
    4 the three stages behind it.
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

    _no_published_weights = field_validator("pretrained")(_path_or_none)

    @field_validator("frozen_stages")
    @classmethod
    def _stages_exist(cls, stages: int) -> int:
        if stages > cls.stage_count:
            raise ValueError(f"must be at most {cls.stage_count}: the stem and three stages")
        return stages

    @property
    def label(self) -> str:
        """The network in words."""
        return f"{self.kind} of depth {self.depth} with {self.norm} norm"

    @property
    def native_side(self) -> int:
        """The side of the images that the network is meant for, in pixels."""
        return SMALL

    @property
    def one_pixel_side(self) -> int:
        """The side, in pixels, up to which images end as maps of one pixel in a stage that is trained; 0 for none."""
        return 4 if self.frozen_stages < self.stage_count else 0

    def forward_gflops(self, side: int) -> float:
        """About how many GFLOP (multiply-adds) the forward pass of one image of `side` x `side` pixels takes."""
        return 0.0023 * self.depth * (side / SMALL) ** 2


class TorchvisionResNet(_Network):
    """torchvision's ResNet of He et al. 2015, section 4.1 (bottlenecks with the stride in the 3x3: "v1.5").

    `small_images` replaces the 7x7 stride-2 stem and its pooling by a 3x3 stride-1 one, for 32 x 32 input.
    `pretrained` is `none`, the path of a state dict, or `torchvision:NAME` (`torchvision:IMAGENET1K_V2`,
    `torchvision:DEFAULT`). `frozen_stages` counts from the input: 1 freezes the stem, 2 to 5 the stages behind it.
    """

    architecture_keys: ClassVar[str] = "kind, depth, norm and small_images"
    stage_count: ClassVar[int] = 5  # the stem and four stages

    kind: Literal["torchvision_resnet"] = "torchvision_resnet"
    depth: Literal[18, 34, 50, 101, 152] = 50
    small_images: bool = False

    @field_validator("frozen_stages")
    @classmethod
    def _stages_exist(cls, stages: int) -> int:
        if stages > cls.stage_count:
            raise ValueError(f"must be at most {cls.stage_count}: the stem and four stages")
        return stages

    @property
    def label(self) -> str:
        """The network in words."""
        return f"{self.kind} of depth {self.depth} with {self.norm} norm"

    @property
    def native_side(self) -> int:
        """The side of the images that the network is meant for, in pixels."""
        return SMALL if self.small_images else LARGE

    @property
    def one_pixel_side(self) -> int:
        """The side, in pixels, up to which images end as maps of one pixel in a stage that is trained; 0 for none."""
        return (8 if self.small_images else 32) if self.frozen_stages < self.stage_count else 0

    def forward_gflops(self, side: int) -> float:
        """About how many GFLOP (multiply-adds) the forward pass of one image of `side` x `side` pixels takes."""
        stem = 16 if self.small_images else 1  # without stride and pooling every map is 4 x 4 times as large
        return _IMAGENET_GFLOPS[self.depth] * (side / LARGE) ** 2 * stem


class PluginModel(Part):
    """A network of another package: `kind` is its entry point or dotted path, `settings` what its own model allows.

    docs/plugins.md says what `kind` must name. `pretrained` is `none` or the path of a state dict; `frozen_stages`
    counts the stages that the plug-in declares, from the input.
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

    _no_published_weights = field_validator("pretrained")(_path_or_none)
    _none_is_a_word = field_validator("pretrained")(_not_none)
    _frozen_needs_weights = field_validator("frozen_stages")(_needs_weights)

    @field_validator("kind")
    @classmethod
    def _exists(cls, kind: str) -> str:
        if not callable(load_plugin("model", kind)):
            raise ValueError("must name a function or class that is called as build(settings, num_classes)")
        return kind

    @field_validator("settings")
    @classmethod
    def _complete(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """The settings with the plug-in's defaults filled in, as plain data: what a study is recorded with."""
        if "kind" not in info.data:
            return settings
        checked = plugin_settings(load_plugin("model", info.data["kind"]), settings)
        return {} if checked is None else dict(checked.model_dump(mode="json"))

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def label(self) -> str:
        """The network in words."""
        return f"network of the plug-in {self.kind}"

    def forward_gflops(self, side: int) -> float:
        """What the plug-in's own `forward_gflops(settings, side)` says; without one, as a ResNet-50 takes."""
        plugin = load_plugin("model", self.kind)
        if not hasattr(plugin, "forward_gflops"):
            return TorchvisionResNet(depth=50).forward_gflops(side)
        return float(plugin.forward_gflops(plugin_settings(plugin, self.settings), side))


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

    def forward_gflops(self, side: int) -> float:
        """Next to nothing."""
        return 1e-3


_KINDS, _PLUGIN = ("cifar_resnet", "torchvision_resnet", "synthetic"), "plugin"


def _member(tree: object) -> str | None:
    """The tag of the union's member that `tree` is for; one that there is not for an unknown kind."""
    kind = tree.get("kind") if isinstance(tree, Mapping) else getattr(tree, "kind", None)
    if kind is None:
        return None
    if kind in _KINDS or not isinstance(kind, str):
        return str(kind)
    return _PLUGIN if is_dotted_path(kind) or kind in plugin_names("model") else kind


Model = Annotated[
    Annotated[CifarResNet, Tag("cifar_resnet")]
    | Annotated[TorchvisionResNet, Tag("torchvision_resnet")]
    | Annotated[SyntheticCurve, Tag("synthetic")]
    | Annotated[PluginModel, Tag(_PLUGIN)],
    Discriminator(_member),
]
