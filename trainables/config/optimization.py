"""Optimizers and learning-rate schedules, as tagged unions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.part import Count, Fraction, NonNegative, Part, Positive, Whole

__all__ = [
    "LAMB", "SGD", "WSD", "Adam", "AdamW", "Constant", "Cosine", "Cyclic", "Lion", "Muon", "NAdamW", "OneCycle",
    "Optimizer", "Plateau", "RMSprop", "Schedule", "Step",
]  # fmt: skip


class _Optimizer(Part):
    state_slots: ClassVar[int] = 1  # numbers that the optimizer stores for each weight

    lr: Positive
    weight_decay: NonNegative = 0.0
    decay_norm_and_bias: bool = True
    backbone_lr_ratio: Annotated[float, Field(gt=0, le=10)] = 1.0


class SGD(_Optimizer):
    """Stochastic gradient descent.

    In every optimizer, `backbone_lr_ratio` is the backbone's learning rate over the head's.
    """

    state_slots: ClassVar[int] = 1

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False

    @field_validator("nesterov")
    @classmethod
    def _nesterov_needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("must be false when momentum is 0")
        return nesterov


class _AdamFamily(_Optimizer):
    state_slots: ClassVar[int] = 2

    lr: Positive = 1e-3
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    eps: Positive = 1e-8


class Adam(_AdamFamily):
    """Adam (Kingma and Ba 2014); `weight_decay` is an L2 penalty in the gradient."""

    kind: Literal["adam"] = "adam"


class AdamW(_AdamFamily):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017)."""

    kind: Literal["adamw"] = "adamw"


class RMSprop(_Optimizer):
    """RMSprop (Hinton, lecture 6e)."""

    state_slots: ClassVar[int] = 2  # one without momentum

    kind: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-3
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.99
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eps: Positive = 1e-8


class NAdamW(_AdamFamily):
    """Adam with Nesterov momentum (Dozat 2016) and decoupled weight decay, torch's NAdam."""

    kind: Literal["nadamw"] = "nadamw"


class LAMB(_AdamFamily):
    """LAMB (You et al. 2019), Adam's step scaled layer by layer to the norm of its weights; timm's.

    Gradients are not clipped, as in timm they are by default: `regularization.clip_norm: 1` does that.
    """

    kind: Literal["lamb"] = "lamb"
    lr: Positive = 5e-3
    eps: Positive = 1e-6


class Lion(_Optimizer):
    """Lion (Chen et al. 2023), the sign of an averaged gradient, with decoupled weight decay; timm's.

    The authors take a learning rate 3 to 10 times below AdamW's, and a weight decay as much above.
    """

    state_slots: ClassVar[int] = 1

    kind: Literal["lion"] = "lion"
    lr: Positive = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99


class Muon(_Optimizer):
    """Muon (Jordan et al. 2024), orthogonalized Nesterov momentum, with decoupled weight decay; timm's.

    A convolution is one matrix of output channels by all the rest. Steps are scaled as Liu et al. 2025 do, so that
    rates and decays are about AdamW's. Biases, norms and the head get NAdamW steps at the same rate.
    """

    state_slots: ClassVar[int] = 1  # two for the few numbers that get NAdamW steps

    kind: Literal["muon"] = "muon"
    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95


Optimizer = Annotated[SGD | Adam | AdamW | RMSprop | NAdamW | LAMB | Lion | Muon, Field(discriminator="kind")]


class _Schedule(Part):
    # All lengths are fractions of the run, so that a schedule keeps its shape when `epochs` changes.
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Constant(_Schedule):
    """The learning rate stays as it is, after a linear warm-up over the fraction `warmup` of the run, as everywhere."""

    kind: Literal["constant"] = "constant"


class Step(_Schedule):
    """Multiplied by `gamma` at each of `milestones`, fractions of the run."""

    kind: Literal["step"] = "step"
    milestones: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @field_validator("milestones")
    @classmethod
    def _increasing(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < m < 1 for m in milestones) or list(milestones) != sorted(set(milestones)):
            raise ValueError("must be increasing fractions of the run between 0 and 1")
        return milestones


class Cosine(_Schedule):
    """Half a cosine down to `final_ratio` of the peak (Loshchilov and Hutter 2016, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    final_ratio: Fraction = 0.0


class WSD(_Schedule):
    """Warm-up, stable, decay: constant until the last `decay` of the run, then linear down to `final_ratio` x lr.

    After Hu et al. 2024 (MiniCPM) and Hägele et al. 2024.
    """

    kind: Literal["wsd"] = "wsd"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    final_ratio: Fraction = 0.0

    @field_validator("decay")
    @classmethod
    def _after_the_warm_up(cls, decay: float, info: ValidationInfo) -> float:
        if decay + info.data.get("warmup", 0) > 1:
            raise ValueError("must be at most 1 - warmup: the decay begins after the warm-up")
        return decay


class OneCycle(Part):
    """One rise and one fall, both cosines (Smith and Topin 2017).

    From lr/`initial_divisor` to lr at the fraction `peak` of the run, then down to lr/`final_divisor`. With
    `cycle_momentum` the optimizer's momentum (Adam's beta1), whatever it is set to, falls from `max_momentum` to
    `base_momentum` while the rate rises, and returns.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.3
    initial_divisor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 25.0
    final_divisor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1e4
    # Keys that were added later are left out of dumps unless they are set: what a study is has not changed since.
    cycle_momentum: Annotated[bool, Field(exclude_if=lambda cycle: not cycle)] = False
    base_momentum: Annotated[float, Field(gt=0, lt=1, exclude_if=lambda low: low == 0.85)] = 0.85
    max_momentum: Annotated[float, Field(gt=0, lt=1, exclude_if=lambda high: high == 0.95)] = 0.95

    @field_validator("max_momentum")
    @classmethod
    def _above_base(cls, highest: float, info: ValidationInfo) -> float:
        if highest < info.data.get("base_momentum", 0):
            raise ValueError("must not be below base_momentum")
        return highest


class Cyclic(_Schedule):
    """`cycles` triangles between `low_ratio` x lr and lr (Smith 2015)."""

    kind: Literal["cyclic"] = "cyclic"
    cycles: Count = 4
    low_ratio: Fraction = 0.1


class Plateau(_Schedule):
    """Multiplied by `factor` when val_loss has not improved for over `patience` epochs, not below `low_ratio` x lr."""

    kind: Literal["plateau"] = "plateau"
    patience: Whole = 5
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    low_ratio: Fraction = 0.0


Schedule = Annotated[Constant | Step | Cosine | WSD | OneCycle | Cyclic | Plateau, Field(discriminator="kind")]
