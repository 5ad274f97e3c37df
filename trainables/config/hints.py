"""The right word for what was written: keys that other tools have, near spellings, values of another type."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from pydantic import BaseModel

from trainables.config.keys import owners, paths_of, valid_keys

__all__ = [
    "NONE_WORDS", "OTHER_WORDS", "in_our_words", "nearest", "network_hint", "suggestion", "type_hint", "unknown_key",
]  # fmt: skip

# What Python, JSON, YAML and people write for nothing.
NONE_WORDS = ("", "none", "None", "NONE", "null", "Null", "NULL", "nil", "~")

_BETAS = "adam and adamw have `optimizer.beta1` and `optimizer.beta2`"
# Keys of Hugging Face, Keras, Lightning, timm and YOLO, by their last part: our path, or what to do in words.
OTHER_WORDS: Mapping[str, str] = {
    "learning_rate": "optimizer.lr", "base_lr": "optimizer.lr", "init_lr": "optimizer.lr", "lr0": "optimizer.lr",
    "max_lr": "optimizer.lr", "eta": "optimizer.lr", "alpha0": "optimizer.lr", "wd": "optimizer.weight_decay",
    "l2": "optimizer.weight_decay", "decay": "optimizer.weight_decay", "weightdecay": "optimizer.weight_decay",
    "betas": _BETAS, "beta_1": _BETAS, "beta_2": _BETAS, "beta": _BETAS, "rho": "optimizer.alpha",
    "epsilon": "optimizer.eps", "optim": "optimizer.kind", "opt": "optimizer.kind", "solver": "optimizer.kind",
    "bs": "batch_size", "batch": "batch_size", "batchsize": "batch_size", "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size", "minibatch_size": "batch_size",
    "epoch": "epochs", "max_epochs": "epochs", "num_epochs": "epochs", "n_epochs": "epochs",
    "num_train_epochs": "epochs", "max_epoch": "epochs", "random_state": "seed", "random_seed": "seed",
    "lr_scheduler": "schedule.kind", "lr_schedule": "schedule.kind", "lr_scheduler_type": "schedule.kind",
    "warmup_ratio": "schedule.warmup", "warmup_epochs": "schedule.warmup", "warmup_steps": "schedule.warmup",
    "num_warmup_steps": "schedule.warmup", "pct_start": "schedule.peak", "step_size": "schedule.milestones",
    "decay_epochs": "schedule.milestones", "decay_rate": "schedule.gamma",
    "smoothing": "regularization.label_smoothing", "early_stopping": "regularization.patience",
    "early_stopping_patience": "regularization.patience", "grad_clip": "regularization.clip_norm",
    "clip_grad": "regularization.clip_norm", "max_grad_norm": "regularization.clip_norm",
    "gradient_clip_val": "regularization.clip_norm", "ema": "regularization.ema_decay",
    "class_weight": "regularization.imbalance", "class_weights": "regularization.imbalance",
    "drop_rate": "model.dropout", "dropout_rate": "model.dropout", "weights": "model.pretrained",
    "checkpoint": "model.pretrained", "freeze": "model.frozen_stages", "freeze_layers": "model.frozen_stages",
    "arch": "model.kind", "architecture": "model.kind", "backbone": "model.kind", "model_name": "model.kind",
    "drop_path_rate": "model.drop_path", "stochastic_depth": "model.drop_path", "widen_factor": "model.width",
    "num_layers": "model.depth", "layers": "model.depth", "dataset": "data.source", "data_dir": "data.source",
    "data_path": "data.source", "image_size": "data.resolution", "img_size": "data.resolution",
    "imgsz": "data.resolution", "input_size": "data.resolution", "crop_size": "data.resolution",
    "n_splits": "data.folds", "num_folds": "data.folds", "n_folds": "data.folds", "cv": "data.folds",
    "val_split": "data.val_fraction", "validation_split": "data.val_fraction", "test_split": "data.test_fraction",
    "mixup_alpha": "augment.mixup", "cutmix_alpha": "augment.cutmix", "random_erasing": "augment.cutout",
    "hflip": "augment.flip", "horizontal_flip": "augment.flip", "randaug": "augment.policy",
    "auto_augment": "augment.policy", "jitter": "augment.color_jitter", "degrees": "augment.rotation",
    "amp": "execution.precision", "fp16": "execution.precision", "bf16": "execution.precision",
    "mixed_precision": "execution.precision", "num_threads": "execution.threads", "accelerator": "execution.device",
}  # fmt: skip

_SEARCHED = "what is searched is written in a study's `space`"


def in_our_words(value: object, types: Collection[Any]) -> Any:
    """`value`; but the key's own word for none where the value is another language's."""
    if not (value is None or (value is False and bool not in types) or value in NONE_WORDS):
        return value
    if "none" in types:
        return "none"
    text = any(kind is str or isinstance(kind, str) for kind in types)
    return None if NoneType in types and not text else value


def nearest(key: str, keys: Iterable[str], listed: str = "valid keys") -> str:
    """A hint like "did you mean `lr`?", or when none is near the list of the keys, which is called `listed`."""
    keys = list(keys)
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"{listed}: {', '.join(keys) or 'none'}"


def suggestion(path: str, near: Sequence[str], paths: Sequence[str], words: Mapping[str, str], prefix: str = "") -> str:
    """What was meant by a path that there is not.

    Args:
        path: dotted.
        near: the keys that there are in its section, written with `prefix`.
        paths: those of the whole tree.
        words: what other tools' keys are called here, by the path or its last part.
    """
    last = path.rpartition(".")[2].lower().replace("-", "_")
    meant = words.get(path) or words.get(last)
    if meant:
        return meant if " " in meant else f"did you mean `{meant}`?"
    found = [prefix + key for key in difflib.get_close_matches(last, near, n=1, cutoff=0.85)]
    elsewhere = [other for other in paths if other.rpartition(".")[2] == last and other != path]
    found += elsewhere if len(elsewhere) < 3 else difflib.get_close_matches(path, elsewhere, n=1, cutoff=0.0)
    if not found:
        found = [prefix + key for key in difflib.get_close_matches(last, near, n=1, cutoff=0.5)]
    if not found:
        ends = {other.rpartition(".")[2]: other for other in paths}
        found = [ends[end] for end in difflib.get_close_matches(last, ends, n=1, cutoff=0.75)]
    if found:
        return f"did you mean {' or '.join(f'`{other}`' for other in dict.fromkeys(found))}?"
    return f"valid keys: {', '.join(near)}"


def unknown_key(model: type[BaseModel], location: Sequence[object], path: str, prefix: str = "") -> str:
    """The end of the rule "unknown key" for the last key of a location; `path` is its dotted path."""
    near, kind = valid_keys(model, location), location[-2] if len(location) > 1 else None
    if others := owners(model, location):
        instead = "; what Adam has for it is `beta1`" if location[-1] == "momentum" and "beta1" in near else ""
        named = " and ".join(filter(None, [", ".join(others[:-1]), others[-1]]))
        return f" with kind {kind}: {named} {'has' if len(others) == 1 else 'have'} it{instead}"
    words = getattr(model, "other_words", OTHER_WORDS)
    return f", {suggestion(path, near, paths_of(model), words, prefix)}"


def network_hint(kind: str) -> str:
    """What to write for a network's own name as the kind of a model; empty for what looks like none."""
    if depth := re.fullmatch(r"resnet-?(18|34|50|101|152)", kind, re.IGNORECASE):
        return f", did you mean {{kind: torchvision_resnet, depth: {depth[1]}}}?"
    if re.fullmatch(r"\w*(net|next|vit|swin)\w*\d\w*", kind):
        return f", did you mean {{kind: timm, name: {kind}}}?"
    return ""


def type_hint(kind: str, value: object, types: Collection[Any]) -> str:
    """What to write instead of a value of the wrong type; empty, or to be put behind pydantic's rule.

    Args:
        kind: of pydantic's error.
        value: what was written.
        types: as `keys.types_at` gives them.
    """
    hints = list(_type_hints(kind, value, types))
    return f": {hints[0]}" if hints else ""


def _type_hints(kind: str, value: object, types: Collection[Any]) -> Iterator[str]:
    text = value.strip() if isinstance(value, str) else None
    words = [word for word in types if isinstance(word, str)]
    number = kind.startswith(("int", "float"))
    if isinstance(value, Mapping) and dict not in types:
        yield _SEARCHED
    if kind == "bool_type":
        yield "true or false"
    if isinstance(value, list | tuple) and types and not {list, object} & set(types):
        options = ", ".join(map(_shown, value[:3]))
        yield f"one value; several to be tried are written {{choice: [{options}]}} in the space"
    if kind.startswith(("tuple", "list")) and isinstance(value, str | int | float):
        yield f"a list in brackets, [{_shown(value).strip('()')}]"
    if value is None or value is False or text in NONE_WORDS:
        if "none" in words:
            yield "'none' for none"
        elif NoneType in types:
            yield "null for none"
        elif number:
            yield "0 leaves it out where that is allowed (resized_crop: 1)"
    if isinstance(value, bool) and kind in ("string_type", "literal_error"):
        yield "YAML takes on, off, yes, no, true and false for this: put a word in quotes"
    if kind == "string_type" and isinstance(value, int | float):
        yield f"text in quotes, '{_shown(value)}'"
    if kind.startswith("int") and isinstance(value, float):
        yield "digits alone, 1000 for 1e3"
    if number and text is not None:
        yield from _number_hints(text, whole=kind.startswith("int"))


def _shown(value: object) -> str:
    """A scalar as it was written; not what would take long to write."""
    if isinstance(value, int) and value.bit_length() > 100:
        return "..."
    return str(value)[:40] if isinstance(value, str | int | float | None) else "..."


def _number_hints(text: str, whole: bool) -> Iterator[str]:
    if re.fullmatch(r"[A-Za-z_.]+\(.*\)", text):
        yield _SEARCHED
    if re.fullmatch(r"[+-]?\d*\.?\d+\s*%", text):
        yield f"write {float(text.rstrip('% ')) / 100:g}"
    if not whole and re.fullmatch(r"[+-]?\d+,\d+", text):
        yield f"write {text.replace(',', '.')}, with a point"
    if "," in text:
        yield f"one value; several to be tried are written {{choice: [{text}]}} in the space"
    try:
        number = float(text)
    except ValueError:
        return
    yield f"write {number:g}, without quotes" if math.isfinite(number) else "a finite one"
