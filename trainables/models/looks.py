"""What network a file's tensors look like, in words, for the message that says why they do not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainables.config.network import VARIANTS

__all__ = ["looks_like"]

# Blocks of each stage by depth (He et al. 2015, table 1).
_BASIC: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
_BOTTLENECK: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}

# torchvision's variants by the shape of the second convolution in their first block.
_INNER = {(128, 128): "wide", (128, 4): "resnext_32x4d", (256, 8): "resnext_32x8d", (256, 4): "resnext_64x4d"}

# A name that only networks of this kind have.
_OTHERS = (
    (r"relative_position_bias_table", "a Swin transformer"),
    (r"patch_embed|cls_token|class_token|pos_embed|vision_model\.|encoder_layer_\d", "a vision transformer (ViT)"),
    (r"text_model\.|word_embeddings|\bwte\.|token_embedding", "a language model"),
    (r"layer_scale|stages\.\d+\.\d+\.gamma|blocks\.\d+\.dwconv|stages\.\d+\.blocks\.\d+\.gamma", "a ConvNeXt"),
    (r"denseblock\d", "a DenseNet"),
    (r"_depthwise_conv|conv_dw|conv_stem", "an EfficientNet or MobileNet"),
    (r"features\.\d+\.conv\.\d+\.0\.weight|features\.\d+\.block\.", "a MobileNet or EfficientNet"),
    (r"attnpool|visual\.", "a network of CLIP"),
    (r"root\.conv\.weight|block\d\.unit\d+", "a Big Transfer ResNet (v2)"),
    (r"Mixed_\d|inception\d", "an Inception network"),
    (r"features\.\d+\.weight", "a VGG or AlexNet"),
)


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str | None]:
    """The network in words, and the settings of `model` that would fit, None if there are none.

    Args:
        shapes: of the tensors by name; those of a ResNet as torchvision names them, without a prefix.
    """
    blocks: dict[str, set[str]] = {}
    for name in shapes:
        if found := re.match(r"(layer\d+)\.(\d+)\.", name):
            blocks.setdefault(found[1], set()).add(found[2])
    if "layer1" in blocks and "layer1.0.conv1.weight" in shapes:
        return _resnet(shapes, tuple(len(blocks[stage]) for stage in sorted(blocks)))
    for pattern, words in _OTHERS:
        if any(re.search(pattern, name) for name in shapes):
            return words, None
    named = ", ".join(list(shapes)[:3])
    return f"tensors of other names ({named}{', ...' if len(shapes) > 3 else ''})", None


def _resnet(shapes: Mapping[str, tuple[int, ...]], blocks: tuple[int, ...]) -> tuple[str, str | None]:
    bottleneck = "layer1.0.conv3.weight" in shapes
    stem, inner = shapes.get("conv1.weight", ()), shapes.get("layer1.0.conv2.weight", ())
    inner = inner if len(inner) == 4 else (0, 0, 0, 0)
    norm = "batch" if any(name.startswith("layer1") and "running_mean" in name for name in shapes) else "group"
    told = [stem_words] if (stem_words := _stem(shapes, stem)) else []
    told += ["without batch norm's statistics"] if norm == "group" else []
    odd = False
    if stem[:1] == (16,) and len(blocks) == 3 and not bottleneck and len(set(blocks)) == 1:
        depth: int | None = 6 * blocks[0] + 2
        name, settings = f"a CIFAR ResNet-{depth}", f"kind: cifar_resnet, depth: {depth}, norm: {norm}"
        if any("downsample" in key for key in shapes):
            told.append("convolutions in its shortcuts (option B)")
        odd = len(told) > (norm == "group")
    else:
        depth = (_BOTTLENECK if bottleneck else _BASIC).get(blocks)
        name = f"a ResNet-{depth}" if depth else f"a ResNet with stages of {'-'.join(map(str, blocks))} blocks"
        small = str(stem[2:] == (3, 3)).lower()
        variant = _INNER.get(inner[:2], "") if bottleneck else ""
        known = (variant, depth) in VARIANTS
        settings = f"kind: torchvision_resnet, depth: {depth}, norm: {norm}, small_images: {small}"
        settings += f", variant: {variant}" if known else ""
        odd = depth is None or stem not in ((64, 3, 7, 7), (64, 3, 3, 3))
        if inner[1] not in (0, inner[0]):
            told = [*told, f"grouped convolutions (ResNeXt, {inner[0] // max(inner[1], 1)} groups)"]
            odd = odd or not known
        elif inner[0] not in (0, 64):
            told, odd = [*told, f"{inner[0]} channels in its first blocks (a wide ResNet)"], odd or not known
    if any(re.search(r"\.(se|fc1|attn|eca)\b", key) for key in shapes):
        told, odd = [*told, "attention in its blocks (SE, ECA)"], True
    with_ = f" with {' and '.join(told)}" if told else ""
    return name + with_.replace("with without", "without").replace("and without", "without"), None if odd else settings


def _stem(shapes: Mapping[str, tuple[int, ...]], stem: tuple[int, ...]) -> str:
    if not stem:
        return "a deep stem (ResNet-C, ResNet-D)" if "conv1.0.weight" in shapes else "no stem of its own"
    channels = f" for images of {stem[1]} channels" if len(stem) == 4 and stem[1] != 3 else ""
    if len(stem) == 4 and stem[0] != 16:
        return {(7, 7): "an ImageNet stem (7x7)", (3, 3): "a CIFAR stem (3x3)"}.get(
            stem[2:], "a stem of its own"
        ) + channels
    return channels and f"a stem{channels}"
