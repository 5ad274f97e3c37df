"""What a pretrained network sees in images: the numbers that its head would classify."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.config import Execution, Normalization, TrialConfig
from trainables.cpu import available_cpus
from trainables.data.decode import decode, decode_square
from trainables.data.image_file import quiet
from trainables.data.images import Images
from trainables.data.prepare import LARGEST_NATIVE
from trainables.inspection.images import SIDE, Pixels, Scanned
from trainables.models.networks import build_network
from trainables.models.pretrained import load_pretrained, pretrained_scale
from trainables.models.protocol import head
from trainables.training.execution import memory_format, resolve_device
from trainables.training.inference import Inference

__all__ = ["Features"]

_BATCH = 128
_LOOKED_AT = 256


class Features:
    """A pretrained network without its head, in float32; it sees images as its weights want them scaled.

    Attributes:
        lines: what was loaded of its weights.

    Args:
        config: `model` names the weights, `execution.device` where they run. Images come in `data.resolution`; without
            one they keep their size where all are alike, and are cut to squares of the size that the network is meant
            for otherwise.

    Raises:
        ConfigError: if the weights cannot be had or do not fit.
    """

    def __init__(self, config: TrialConfig) -> None:
        execution = Execution(device=config.execution.device, precision="fp32")
        self._device = resolve_device(execution.device)
        self._model = build_network(config.model, 2).eval()
        self.lines = load_pretrained(self._model, config.model).lines
        self._model.to(device=self._device, memory_format=memory_format(execution))  # type: ignore[call-overload]
        self._resolution = config.data.resolution
        self._native = config.model.native_side or 224
        self._execution, self._config = execution, config.model

    def _inference(self, images: Scanned) -> Inference:
        """How pixels become the network's input, scaled as its weights want it."""
        some = np.random.default_rng(0).permutation(len(images))[:_LOOKED_AT]  # a source's first ones are of one class
        pixels = torch.from_numpy(images.squeezed[some])
        levels = pixels.double() / 255
        mean, std = levels.mean((0, 2, 3)), levels.std((0, 2, 3)).clamp_min(1 / 255)
        own = Normalization.model_validate({"mean": mean.tolist(), "std": std.tolist()})
        sample = Images(torch.zeros(len(pixels), dtype=torch.int64), pixels, (SIDE, SIDE))
        scale = pretrained_scale(self._config, sample, own)
        normalization = own if scale is None else scale.normalization
        return Inference(normalization, self._resolution, self._execution, self._device)

    def __call__(
        self,
        images: Scanned,
        numbers: Sequence[int],
        tell: Callable[[str], None] = lambda _: None,
        swapped: bool = False,
    ) -> NDArray[np.float32]:
        """The features of some images, float32 [n, k].

        Args:
            images: where they are read.
            numbers: which of them.
            tell: is called with a line about every 10,000 images.
            swapped: whether red and blue change places first.
        """
        seen: list[Tensor] = []
        last = head(self._model) or nn.Identity()
        inference = self._inference(images)
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        found: list[Tensor] = []
        try:
            with torch.inference_mode():
                for count, batch in enumerate(self._batches(images, numbers), start=1):
                    seen.clear()
                    pixels = torch.from_numpy(batch[:, ::-1].copy() if swapped else batch).to(self._device)
                    logits = self._model(inference.inputs(pixels))
                    found.append((seen[0] if seen else logits).cpu())
                    if count * _BATCH % 10_000 < _BATCH and len(numbers) > count * _BATCH:
                        tell(f"features of {count * _BATCH:,} of {len(numbers):,} images")
        finally:
            hook.remove()
        features: NDArray[np.float32] = torch.cat(found).flatten(1).numpy()
        return features

    def _batches(self, images: Scanned, numbers: Sequence[int]) -> Iterator[Pixels]:
        alike = len(np.unique(images.sizes, axis=0)) == 1 and int(images.sizes.max()) <= LARGEST_NATIVE
        side = self._resolution or self._native

        def prepared(encoded: Any) -> Pixels:
            if isinstance(encoded, np.ndarray):
                return encoded
            return decode(encoded) if alike else decode_square(encoded, side)

        with ThreadPoolExecutor(available_cpus()) as pool, quiet():
            for start in range(0, len(numbers), _BATCH):
                batch = [images.encoded(number) for number in numbers[start : start + _BATCH]]
                yield np.stack(list(pool.map(prepared, batch)))
