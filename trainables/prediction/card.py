"""The model card of an exported network: what a stranger should know before using it, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.config import dump_yaml
from trainables.config.plugins import allowing
from trainables.prediction.trained import TrainedNetwork

__all__ = ["model_card"]

_UNKNOWN = "No numbers came with this checkpoint: `python -m trainables.evaluate CHECKPOINT` gives them."

_CARD = """\
# Image classifier: {label}

Classifies images into {count} classes. Trained for {epoch} of {epochs} epochs with seed {seed}.

{usage}

## How well it does

{numbers}

## Input and output

- Pixels: uint8 [n, 3, {height}, {width}], RGB, 0 to 255. They are {resized}divided by 255 and normalized inside;
  no other preprocessing is needed.
- Image files of any size: {cut}, then center-cropped. `prepare` in `load.py` does it. 16-bit grayscale has
  to be converted to 8 bits first, as it was for training.
- Mean {mean}, standard deviation {std}, of R, G, B in 0..1.
- Logits: float32 [n, {count}], in this order:

{classes}

## Data

- Source: `{source}`{fingerprint}
- Pretrained weights: `{pretrained}`

## What it is not for

- Images unlike those that it was trained on: other cameras, places, sizes or subjects. It has been scored
  only on images from the same source.
- Images of none of these classes: it always answers with one of them.
- Decisions by its probability: it was not calibrated, and is usually overconfident.
- Decisions about people, health or safety without an examination made for that purpose.

## Config

`python -m trainables.train config.yaml --checkpoint model.pt{allowed}`, with this as config.yaml, trains it again:

```yaml
{config}
```
"""


def model_card(trained: TrainedNetwork, usage: str, numbers: Sequence[str]) -> str:
    """The card.

    Args:
        trained: the network.
        usage: how it is run, as Markdown.
        numbers: lines of Markdown on how well it does, and from where that is known.
    """
    config, preprocessing = trained.config, trained.preprocessing
    (height, width), side = preprocessing.size, preprocessing.resolution
    covering = f"{width} x {height} pixels are covered" if height != width else f"the shorter side has {height} pixels"
    return _CARD.format(
        label=config.model.label, count=len(trained.class_names), epoch=trained.epoch, epochs=config.epochs,
        seed=config.seed, usage=usage, numbers="\n".join(numbers) or _UNKNOWN, height=height, width=width,
        resized="" if preprocessing.network_size == (height, width) else f"resized to {side} x {side}, ",
        cut=f"scaled until {covering} (bilinear, antialiased)",
        mean=_shown(preprocessing.normalization.mean), std=_shown(preprocessing.normalization.std),
        classes="\n".join(f"  {label}. {name}" for label, name in enumerate(trained.class_names)),
        source=config.data.source, pretrained=config.model.pretrained,
        fingerprint=f", fingerprint `{trained.fingerprint}`" if trained.fingerprint else "",
        allowed=allowing(config.model.kind), config=dump_yaml(config.model_dump(mode="json")).rstrip(),
    )  # fmt: skip


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
