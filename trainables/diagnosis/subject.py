"""What the doctor examines: a network as it was trained, with its images, its curves and ways to score it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.augment.normalize import Normalize
from trainables.config import ConfigError, Normalization, TrialConfig
from trainables.data.images import Images, Splits
from trainables.models import build_model
from trainables.models.cost import forward_gflops
from trainables.seeds import derived_seed
from trainables.training.execution import resolve_device
from trainables.training.feed import Feed
from trainables.training.inference import Inference

__all__ = ["Outcome", "Preparation", "Say", "Subject"]

Say = Callable[[str], None]  # is told what is being tried

# Images that are scored at once in a counterfactual: what this many GFLOP (multiply-adds) of forward passes take.
FORWARD_GFLOP = 50.0
FEWEST_IMAGES, MOST_IMAGES = 128, 1000

Preparation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Outcome:
    """What a network says about some images.

    Attributes:
        logits: float32 [n, classes] on the CPU.
        labels: int64 [n], the network's own.
    """

    logits: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predicted(self) -> Tensor:
        """The class with the largest logit, int64 [n]."""
        return self.logits.argmax(1)

    @cached_property
    def accuracy(self) -> float:
        """The share of images that are given their class."""
        return float((self.predicted == self.labels).float().mean())

    @cached_property
    def loss(self) -> float:
        """Mean cross-entropy in nats; infinite if a logit is not finite."""
        loss = float(functional.cross_entropy(self.logits, self.labels))
        return loss if math.isfinite(loss) else math.inf

    @cached_property
    def recall(self) -> float:
        """Mean over the classes that there are of the share that is recognized."""
        return self.recall_of(self.predicted)

    def recall_of(self, predicted: Tensor) -> float:
        """`recall`, of other predictions int64 [n]."""
        hit = (predicted == self.labels).float()
        return float(torch.stack([hit[self.labels == label].mean() for label in torch.unique(self.labels)]).mean())


@dataclass(frozen=True)
class Subject:
    """A network that is examined.

    Attributes:
        config: what it was trained with.
        model: on the device, in eval mode, its averaged weights where it has such.
        splits: the images.
        normalization: what its images are normalized with.
        classes: the network's label of each class of the images.
        history: the metrics of each epoch; of a checkpoint val_loss alone.
        recorded: whether the training itself wrote down `normalization`; otherwise it is assumed.
        shortened: whether the doctor trained it, for less than the config says.
    """

    config: TrialConfig
    model: nn.Module
    splits: Splits
    normalization: Normalization
    classes: tuple[int, ...]
    history: Sequence[Mapping[str, float]] = ()
    recorded: bool = True
    shortened: bool = False

    @cached_property
    def device(self) -> torch.device:
        """The model's."""
        return resolve_device(self.config.execution.device)

    @property
    def num_classes(self) -> int:
        """How many classes the network tells apart."""
        return self.val.logits.shape[1]

    @property
    def chance_loss(self) -> float:
        """The loss of a network that says nothing, ln of the number of classes."""
        return math.log(self.num_classes)

    def class_name(self, label: int) -> str:
        """What a label of the network is called."""
        names = self.splits.store.class_names
        return names[self.classes.index(label)] if label in self.classes else f"class {label}"

    @cached_property
    def side(self) -> int:
        """Pixels of a side of what the network sees."""
        return self.config.data.resolution or max(self.splits.train.size)

    @cached_property
    def initial(self) -> nn.Module | None:
        """The network as its training began: the seed's weights, or the pretrained ones; None if those are gone."""
        torch.manual_seed(derived_seed(self.config.seed, "weights"))
        try:
            return build_model(self.config.model, self.num_classes).to(self.device)
        except ConfigError:  # a file that was moved since, or published weights without a network
            return None

    @cached_property
    def gflops(self) -> float:
        """10⁹ multiply-adds of the forward pass of an image; 1 where that cannot be counted."""
        return forward_gflops(self.config.model, self.side) or 1.0

    @cached_property
    def affordable(self) -> int:
        """How many images a counterfactual looks at: as many as take a second or two."""
        return int(min(max(FORWARD_GFLOP / self.gflops, FEWEST_IMAGES), MOST_IMAGES))

    def labels(self, images: Images, count: int | None = None) -> Tensor:
        """The network's labels of the first `count` images, int64 on the CPU."""
        return torch.tensor(self.classes)[images.labels[:count]]

    def outcome(
        self, images: Images, count: int | None = None, model: nn.Module | None = None,
        normalization: Normalization | None = None,
    ) -> Outcome:  # fmt: skip
        """What the network, or another one, says about the first images, which are stratified, prepared as in training.

        Args:
            images: a split.
            count: how many of them; None: as many as are affordable.
            model: another network.
            normalization: another one.
        """
        count = min(count or self.affordable, len(images))
        config = self.config
        inference = Inference(
            normalization or self.normalization, config.data.resolution, config.execution, self.device
        )
        logits = inference.logits(model or self.model, Feed(images, self.device), torch.arange(count))
        return Outcome(logits.float().cpu().clone(), self.labels(images, count))

    def inputs(self, images: Images, indices: Tensor, prepared: Preparation | None = None) -> Tensor:
        """What the network takes for some images, float32 [b, 3, h, w] on the device.

        Args:
            images: a split.
            indices: int64 [b].
            prepared: from levels 0..255, float32 [b, 3, h, w], to what replaces normalization; None: as in training.
        """
        normalize = prepared or Normalize(self.normalization.mean, self.normalization.std)
        return self.shaped(normalize(images.batch(indices).to(self.device).float()))

    def shaped(self, images: Tensor) -> Tensor:
        """Normalized images [b, 3, h, w] in the network's resolution and memory layout."""
        inference = Inference(self.normalization, self.config.data.resolution, self.config.execution, self.device)
        return inference.shaped(images)

    def copied_model(self) -> nn.Module:
        """A copy of the network, to be changed."""
        return copy.deepcopy(self.model)

    @cached_property
    def val(self) -> Outcome:
        """What it says about validation images."""
        return self.outcome(self.splits.val)

    @cached_property
    def train(self) -> Outcome:
        """What it says about training images, unaugmented."""
        return self.outcome(self.splits.train)
