"""What a model says about images. Validation, `trainables.evaluate` and whatever predicts prepare pixels here alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.augment.normalize import Normalize
from trainables.config import Execution, Normalization
from trainables.training.execution import autocast, memory_format
from trainables.training.feed import Feed

__all__ = ["Inference", "at_least_float32", "images_at_once"]


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits of a lower precision as float32, others as they are: losses are not computed in bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def images_at_once(side: int, on_gpu: bool) -> int:
    """Images of `side` pixels to compute at once: about the activations of 256 (GPU: 2,000) of 32 x 32 pixels."""
    at_32 = 2000 if on_gpu else 256
    return max(8, min(at_32, at_32 * 32 * 32 // (side * side)))


class Inference:
    """How pixels become logits: normalized, resized, laid out and computed as in training.

    Args:
        normalization: the channel statistics that the model was trained with.
        resolution: side to which images are resized, in pixels; None leaves them as they are.
        execution: the memory layout and the precision of forward passes.
        device: the model's.
    """

    def __init__(
        self, normalization: Normalization, resolution: int | None, execution: Execution, device: torch.device
    ) -> None:
        self._normalize = Normalize(normalization.mean, normalization.std)
        self._resolution = resolution
        self._execution = execution
        self._device = device

    def inputs(self, pixels: Tensor) -> Tensor:
        """What the model takes for pixels uint8 [b, 3, h, w] on the device: float32 [b, 3, side, side]."""
        return self.shaped(self._normalize(pixels))

    def shaped(self, images: Tensor, scale: float = 1.0) -> Tensor:
        """Normalized images [b, 3, h, w] in the model's memory layout and, times `scale`, in its resolution."""
        sides = (self._resolution, self._resolution) if self._resolution else images.shape[-2:]
        height, width = (side if scale == 1 else max(8, 4 * round(side * scale / 4)) for side in sides)
        return _resize(images, (height, width)).contiguous(memory_format=memory_format(self._execution))

    def batch_size(self, feed: Feed) -> int:
        """Images of `feed` to compute at once."""
        side = self._resolution or feed.pixels(torch.zeros(1, dtype=torch.int64)).shape[-1]
        return images_at_once(side, self._device.type == "cuda")

    def logits(
        self, model: nn.Module, feed: Feed, subset: Tensor | None = None, *, flip_average: bool = False
    ) -> Tensor:
        """Logits of the images of `feed`, at least float32 [n, classes], on the device; does not wait for it.

        Args:
            model: a network in this memory layout on this device; it is left in eval mode.
            feed: the images.
            subset: int64 [n], which of them and in which order; None: all of them.
            flip_average: whether to average the logits of each image and of its mirror image (test-time augmentation).
        """
        subset = torch.arange(len(feed)) if subset is None else subset

        def of(images: Tensor) -> Tensor:
            found = at_least_float32(model(images))
            return (found + at_least_float32(model(images.flip(3)))) / 2 if flip_average else found

        model.eval()
        with torch.inference_mode(), autocast(self._execution, self._device):
            batches = torch.split(subset, self.batch_size(feed))
            return torch.cat([of(self.inputs(feed.pixels(batch))) for batch in batches])


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Float images [b, 3, h, w] of this height and width, bilinear with antialiasing."""
    if images.shape[-2:] == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
