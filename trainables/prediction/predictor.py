"""`Predictor.load(MODEL)(IMAGES)`: classes of any images, prepared as the network's training images were."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.config import ConfigError
from trainables.cpu import available_cpus
from trainables.data.decode import Pixels, decode_as, upright
from trainables.data.image_file import DAMAGE, UnreadableImage, quiet, read_encoded
from trainables.data.plain import stored_form
from trainables.prediction.formats import open_folder
from trainables.prediction.preprocessing import Preprocessing, Program
from trainables.prediction.sources import NamedImage
from trainables.prediction.trained import open_checkpoint
from trainables.training.execution import autocast, memory_format, not_emulated, resolve_device
from trainables.training.inference import images_at_once

__all__ = ["AnImage", "Prediction", "Predictor"]

# Pillow's modes that PNG files have; F, gray without a range, has none and is refused.
_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "P", "RGB", "RGBA", "F")

AnImage = NamedImage | Path | str | bytes | Image.Image


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image; or why it could not be read.

    Attributes:
        name: the image's: its path, or its number (from 0) if it came as bytes or pixels.
        class_name: the most likely class; None if the image is unreadable.
        probability: of that class, as softmax gives it, which is rarely calibrated; None likewise.
        logits: of all classes, by label; () likewise.
        error: why it is unreadable; None if it is not.
    """

    name: str
    class_name: str | None = None
    probability: float | None = None
    logits: tuple[float, ...] = ()
    error: str | None = None


class Predictor:
    """A trained network with its classes and its preprocessing; see `load`.

    Args:
        forward: pixels uint8 [n, 3, h, w] on the CPU to logits [n, classes], float32, on the CPU.
        class_names: by label.
        preprocessing: of image files, and the size of pixels.
        on_gpu: whether `forward` runs there.
    """

    def __init__(
        self, forward: Callable[[Tensor], Tensor], class_names: Sequence[str], preprocessing: Preprocessing,
        on_gpu: bool = False,
    ) -> None:  # fmt: skip
        self._forward = forward
        self.class_names = tuple(class_names)
        self.preprocessing = preprocessing
        self._at_once = images_at_once(max(preprocessing.network_size), on_gpu)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Predictor:
        """The predictor of a checkpoint, or of a folder that `resnet-search export --format` wrote.

        A checkpoint is computed as its trial's validation was, on `device`: in the same precision, but in float32 where
        bfloat16 would be emulated. An exported program is computed in float32 on the CPU. Exported programs are code:
        open those of people you trust.

        Raises:
            ConfigError: if it is neither, or damaged.
        """
        path = Path(path)
        if path.is_dir():
            opened = open_folder(path)
            return cls(opened.forward, opened.class_names, opened.preprocessing)
        trained = open_checkpoint(path)
        where = resolve_device(device)
        execution = not_emulated(trained.config.execution.model_copy(update={"device": where.type}))
        network = trained.network.to(device=where, memory_format=memory_format(execution))  # type: ignore[call-overload]
        program = Program(network, trained.preprocessing, execution, where)

        def forward(pixels: Tensor) -> Tensor:
            with autocast(execution, where):
                logits: Tensor = program(pixels.to(where))
            return logits.cpu()

        return cls(forward, trained.class_names, trained.preprocessing, where.type == "cuda")

    def __call__(self, images: Iterable[AnImage]) -> list[Prediction]:
        """Classify images: paths, encoded bytes, or Pillow's images. One that is unreadable has an `error`."""
        return list(self.stream(images))

    def stream(self, images: Iterable[AnImage]) -> Iterator[Prediction]:
        """As a call, but each as soon as its batch is done: for more images than fit into memory."""
        named = (_named(image, number) for number, image in enumerate(images))
        with ThreadPoolExecutor(available_cpus()) as pool, quiet():
            while batch := list(islice(named, self._at_once)):
                read = list(pool.map(self._read, batch))
                pixels = [one for one in read if not isinstance(one, str)]
                logits = iter(self.logits(torch.from_numpy(np.stack(pixels)))) if pixels else iter(())
                for image, found in zip(batch, read, strict=True):
                    yield (
                        Prediction(image.name, error=found)
                        if isinstance(found, str)
                        else self._said(image.name, next(logits))
                    )

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits float32 [n, classes] on the CPU of prepared pixels, uint8 [n, 3, h, w] of `preprocessing.size`."""
        height, width = self.preprocessing.size
        if pixels.dtype != torch.uint8 or pixels.shape[1:] != (3, height, width):
            rule = f"must be uint8 [n, 3, {height}, {width}]: give image files, and they are made that size"
            raise ConfigError.single("pixels", f"{pixels.dtype} {list(pixels.shape)}", rule)
        with torch.inference_mode():
            return torch.cat([self._forward(part) for part in torch.split(pixels, self._at_once)])

    def _said(self, name: str, logits: Tensor) -> Prediction:
        label = int(logits.argmax())
        probability = float(logits.double().softmax(0)[label])
        return Prediction(name, self.class_names[label], probability, tuple(logits.tolist()))

    def _read(self, image: NamedImage | Prediction) -> Pixels | str:
        """The prepared pixels, or why there are none."""
        if isinstance(image, Prediction):
            return str(image.error)
        try:
            encoded = image.image if isinstance(image.image, bytes) else read_encoded(image.image)
            return decode_as(stored_form(encoded), self.preprocessing.target)
        except UnreadableImage as unreadable:
            return f"{unreadable}; {unreadable.cure}"
        except OSError as error:
            return error.strerror or type(error).__name__


def _named(image: AnImage, number: int) -> NamedImage | Prediction:
    """An image as it is read, or what is said of one of Pillow's that has no pixels."""
    match image:
        case NamedImage():
            return image
        case bytes():
            return NamedImage(str(number), image)
        case Image.Image():
            try:
                return NamedImage(str(number), _png(image))
            except DAMAGE as error:
                return Prediction(str(number), error=str(error) or type(error).__name__)
    return NamedImage(str(image), Path(image))


def _png(image: Image.Image) -> bytes:
    pixels = image if image.mode in _MODES else image.convert("RGBA" if image.mode in ("RGBa", "PA") else "RGB")
    buffer = io.BytesIO()
    upright(image, pixels)[0].save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()
