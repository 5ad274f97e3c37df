"""Where weights come from and how each origin names them: one row a family.

What encloses an encoder needs no row: DataParallel's `module.`, torch.compile's `_orig_mod.`, Lightning's `model.` and
every other prefix or key are found by the names that follow them (`encoders.py`). A row is for what the names alone do
not say: which of two encoders its own evaluation takes, that its last layer classifies nothing, or other names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["FAMILIES", "Family", "STYLES", "decided", "family_of"]

Renames = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One origin of weights.

    Attributes:
        name, source: what it is called, and the paper or code that the row was written from.
        marks: a pattern of the parts of names (between the dots) that only its files have; "" if there is none.
        take, leave: patterns of such parts. Of several encoders one with `take` is loaded and those with `leave` are
            not; without `take`, any is loaded before those with `leave`.
        classifies: whether a single linear layer at the end is a classifier, and no projection.
        renames: patterns in whole names and what stands there in torchvision's ResNets.
    """

    name: str
    source: str
    marks: str = ""
    take: str = ""
    leave: str = ""
    classifies: bool = True
    renames: Renames = ()


FAMILIES = (
    Family("averaged weights (EMA)", "https://github.com/huggingface/pytorch-image-models (train.py, model_ema), "
        "https://github.com/pytorch/vision (references/classification)",
        marks=r"(.*_)?ema(_.*)?", take=r"(.*_)?ema(_.*)?", leave=".*"),
    Family("Lightning's weight averaging", "https://lightning.ai/docs/pytorch (WeightAveraging)",
        marks="current_model_state", take="state_dict", leave="current_model_state"),
    Family("MoCo v1 or v2", "https://github.com/facebookresearch/moco (main_lincls.py)",
        marks="encoder_[qk]", take="encoder_q", leave="encoder_k", classifies=False),
    Family("MoCo v3", "https://github.com/facebookresearch/moco-v3 (main_lincls.py)",
        marks="base_encoder", take="base_encoder", leave="momentum_encoder", classifies=False),
    Family("DINO", "https://github.com/facebookresearch/dino (utils.py, load_pretrained_weights)",
        marks="(teacher|student)(_.*)?", take="teacher(_.*)?", leave="student(_.*)?", classifies=False),
    Family("BYOL", "https://arxiv.org/abs/2006.07733, https://github.com/lucidrains/byol-pytorch, "
        "https://github.com/sthalles/PyTorch-BYOL",
        marks="(online|target)_(encoder|network|net)(_.*)?", take="online(_.*)?", leave="target(_.*)?",
        classifies=False),
    Family("solo-learn or lightly", "https://github.com/vturrisi/solo-learn, https://github.com/lightly-ai/lightly",
        marks="(.*_)?momentum(_.*)?", leave="(.*_)?momentum(_.*)?"),
    Family("SwAV", "https://github.com/facebookresearch/swav (eval_linear.py)",
        marks="prototypes|projection_head", classifies=False),
    Family("SimSiam", "https://github.com/facebookresearch/simsiam (main_lincls.py)", marks="predictor",
        classifies=False),
    Family("Barlow Twins or VICReg", "https://github.com/facebookresearch/barlowtwins (main.py), "
        "https://github.com/facebookresearch/vicreg (main_vicreg.py)", marks="projector"),
    Family("SimCLR", "https://arxiv.org/abs/2002.05709, https://github.com/sthalles/SimCLR", marks="projection(_.*)?"),
    Family("VISSL", "https://github.com/facebookresearch/vissl (classy_state_dict)", marks="_feature_blocks"),
    Family("MMPretrain", "https://github.com/open-mmlab/mmpretrain (classifiers, backbone and head)", marks="fc_cls"),
    Family("torchvision's detection", "https://github.com/pytorch/vision (models/detection)", marks="rpn|roi_heads"),
    Family("DeepSpeed", "https://deepspeed.readthedocs.io (model-checkpointing)", marks="ds_config|ds_version"),
    Family("transformers", "https://github.com/huggingface/transformers (models/resnet/modeling_resnet.py)",
        renames=(
            (r"embedder\.embedder\.convolution\.", "conv1."), (r"embedder\.embedder\.normalization\.", "bn1."),
            (r"(?<![a-z])encoder\.stages\.(\d+)\.layers\.(\d+)\.", "layer{0+1}.{1}."),
            (r"layer\.(\d+)\.convolution\.", "conv{0+1}."), (r"layer\.(\d+)\.normalization\.", "bn{0+1}."),
            (r"shortcut\.convolution\.", "downsample.0."), (r"shortcut\.normalization\.", "downsample.1."),
        )),
    Family("pytorch-cifar", "https://github.com/kuangliu/pytorch-cifar (models/resnet.py)",
        renames=((r"(?<=\.)shortcut\.(?=[01]\.)", "downsample."),)),
    Family("modules compiled, sharded or checkpointed one by one", "https://github.com/pytorch/pytorch (torch/_dynamo, "
        "distributed/fsdp, distributed/algorithms)",
        renames=((r"(?<=\.)_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.", ""),)),
    Family("a stem in layer0", "https://github.com/Cadene/pretrained-models.pytorch",
        renames=((r"(?<![a-z])layer0\.(0|conv1)\.", "conv1."), (r"(?<![a-z])layer0\.(1|bn1)\.", "bn1."))),
)  # fmt: skip


def decided(paths: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Of the encoders at `paths` those that are left when each family has left out the ones that it does not take."""
    left = list(paths)
    for family in FAMILIES:
        if family.leave:
            others = [path for path in left if _has(path, family.leave) and not _has(path, family.take)]
            kept = [path for path in left if path not in others]
            if any(not family.take or _has(path, family.take) for path in kept):
                left = kept
    return left


def family_of(parts: Iterable[str]) -> Family | None:
    """The first family that marks one of these parts of names."""
    parts = tuple(parts)
    return next((family for family in FAMILIES if family.marks and _has(parts, family.marks)), None)


def _has(parts: Iterable[str], pattern: str) -> bool:
    return bool(pattern) and any(re.fullmatch(pattern, part) for part in parts)


def _substituted(renames: Renames) -> Callable[[Iterable[str]], Mapping[str, str]]:
    def filled(template: str, found: re.Match[str]) -> str:
        def number(place: re.Match[str]) -> str:
            group = found[int(place[1]) + 1]
            return str(int(group) + 1) if place[2] else group

        return re.sub(r"\{(\d)(\+1)?\}", number, template)

    def rename(names: Iterable[str]) -> Mapping[str, str]:
        renamed = {}
        for name in names:
            new = name
            for pattern, template in renames:
                new = re.sub(pattern, lambda found, template=template: filled(template, found), new)  # type: ignore[misc]
            renamed[name] = new
        return renamed

    return rename


def _children(names: Iterable[str]) -> Mapping[str, str]:
    """Names of `nn.Sequential(*list(resnet.children())[:-1])`: 0 is conv1, 1 is bn1, and each number that has blocks
    is a stage; with torchvision's children 4 is layer1, without a module for ReLU or pooling 3 or 2 is."""
    names = list(names)
    stages: dict[str, set[int]] = {}
    for name in names:
        if found := re.match(r"(.*?(?:^|\.))(\d+)\.0\.conv1\.weight$", name):
            stages.setdefault(found[1], set()).add(int(found[2]))
    renamed = {name: name for name in names}
    for stem, numbers in stages.items():
        new = {"0": "conv1", "1": "bn1"} | {str(n): f"layer{rank}" for rank, n in enumerate(sorted(numbers), 1)}
        for name in names:
            number, dot, rest = name.removeprefix(stem).partition(".")
            if name.startswith(stem) and dot and number in new:
                renamed[name] = f"{stem}{new[number]}.{rest}"
    return renamed


# Ways to read the names of a file, as they stand first.
STYLES: tuple[Callable[[Iterable[str]], Mapping[str, str]], ...] = (
    lambda names: {name: name for name in names},
    *(_substituted(family.renames) for family in FAMILIES if family.renames),
    _children,
)
