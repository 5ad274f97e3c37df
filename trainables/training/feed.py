"""Images on their way to the model: on the device once where they fit, gathered there batch by batch."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from trainables.augment.batch import Augmentation, Batch
from trainables.data.images import Images

__all__ = ["Feed"]

# Share of the free device memory that pixels may take; the rest is the model's and its activations'.
RESIDENT_SHARE = 0.3


# Trials of one process that are given the same images share what is on its GPU.
_ON_GPU: WeakKeyDictionary[Images, Tensor] = WeakKeyDictionary()


class Feed:
    """One split on one device.

    On a GPU the uint8 pixels are copied there once if they take less than 30 % of its free memory; on the CPU they stay
    in the memory-mapped store. Otherwise batches are read and copied as they are asked for.

    Attributes:
        labels: int64 [n], on the device.
    """

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images = images
        self._device = device
        self.labels = images.labels.to(device)
        self._resident = _resident(images, device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._images)

    def augmented(
        self, indices: Tensor, augmentation: Augmentation, generator: torch.Generator, turn: Tensor | None = None
    ) -> Batch:
        """A batch to train on, for indices as `pixels` takes them; crops come from the image files where there are.

        `turn` is that of `Augmentation`, for these indices.
        """
        windows = augmentation.windows(len(indices), generator) if self._images.has_originals else None
        pixels = self.pixels(indices) if windows is None else self._sent(self._images.crops(indices.cpu(), windows))
        return augmentation(pixels, self.labels[indices], generator, cropped=windows is not None, turn=turn)

    def pixels(self, indices: Tensor) -> Tensor:
        """uint8 [b, 3, h, w] on the device, for int64 indices [b] on the CPU or the device."""
        if self._resident is not None:
            return self._resident[indices]
        return self._sent(self._images.batch(indices.cpu()))

    def _sent(self, batch: Tensor) -> Tensor:
        if self._device.type == "cuda":
            return batch.pin_memory().to(self._device, non_blocking=True)
        return batch


def _resident(images: Images, device: torch.device) -> Tensor | None:
    if images.pixels is None:
        return None
    if images not in _ON_GPU:
        free, _ = torch.cuda.mem_get_info(device)
        if len(images) * images.pixels[0].numel() >= RESIDENT_SHARE * free:
            return None
        _ON_GPU[images] = images.batch(torch.arange(len(images))).to(device)
    return _ON_GPU[images]
