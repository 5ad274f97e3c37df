"""Which columns of a table hold images and labels, and labels of any kind as class numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds
from numpy.typing import NDArray

from trainables.config import ConfigError
from trainables.config.images import Columns
from trainables.data.names import split_of_table
from trainables.data.source import Split, listed
from trainables.data.tables import refusal, unreadable

__all__ = ["Found", "Labels", "class_names", "find_columns", "groups_of", "labels_of", "split_column", "splits_of"]

_LABELS = ("label", "fine_label", "labels")  # integers in the first of these are the labels, whatever else there is
_OTHER_LABELS = ("class", "target", "category", "y", "cls", "class_name", "label_name", "class_label", "label_text",
                 "class_id", "label_id", "coarse_label")  # fmt: skip
_IMAGES = ("image", "img")
_PATHS = ("image", "img", "image_path", "path", "file", "file_name", "filename", "filepath", "file_path", "image_file")
_SPLITS = ("split", "subset", "set", "partition", "phase", "usage")
_NO_LABELS = {
    *_PATHS, *_SPLITS,
    "id", "idx", "index", "image_id", "width", "height", "caption", "text", "__index_level_0__",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The columns of a table; `field` is where the image's bytes are, `paths` where its path is, "" without."""

    image: str
    label: str
    field: str
    paths: str


@dataclass(frozen=True)
class Labels:
    """A label for each row: a number, or a position among `texts`."""

    numbers: NDArray[np.int64]
    texts: tuple[str, ...] | None


def _shown(schema: pa.Schema) -> str:
    return listed([f"{field.name}: {str(field.type)[:60]}" for field in schema], 10)


def find_columns(schema: pa.Schema, wanted: Columns, path: Path) -> Found:
    """The columns of images and labels: those that are wanted, else those that can be meant.

    Raises:
        ConfigError: if there is none, or more than one.
    """
    if len(set(schema.names)) < len(schema.names):
        raise unreadable(path, ValueError(f"columns of one name: {listed(schema.names, 10)}"))
    for kind, name in (("image", wanted.image), ("label", wanted.label)):
        if name is not None and name not in schema.names:
            rule = f"must have the column that it names: `{path}` has {_shown(schema)}"
            raise ConfigError.single(f"data.columns.{kind}", name, rule)
    image = wanted.image or _image_column(schema, wanted.label, path)
    label = wanted.label or _label_column(schema, image, path)
    kind = schema.field(image).type
    if _is_struct(kind):
        inner = {f.name for f in map(kind.field, range(kind.num_fields)) if not kinds.is_null(f.type)}
        return Found(
            image, label, f"{image}.bytes" if "bytes" in inner else "", f"{image}.path" if "path" in inner else ""
        )
    if _is_bytes(kind):
        return Found(image, label, image, "")
    if _is_text(kind):
        return Found(image, label, "", image)
    raise refusal(path, f"must have images as the bytes of image files, and its column `{image}` is of type {kind}")


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _is_struct(kind: pa.DataType) -> bool:
    """Whether a column is of the `datasets` library's Image type."""
    if not kinds.is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    if "bytes" in fields:
        return _is_bytes(fields["bytes"]) or kinds.is_null(fields["bytes"])
    return set(fields) == {"path"} and _is_text(fields["path"])


def _is_label(kind: pa.DataType) -> bool:
    return bool(
        kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_floating(kind) or kinds.is_dictionary(kind)
        or _is_text(kind)
    )  # fmt: skip


def _image_column(schema: pa.Schema, label: str | None, path: Path) -> str:
    choices: tuple[tuple[Callable[[pa.DataType], bool], tuple[str, ...] | None], ...] = (
        (_is_struct, None), (_is_bytes, None), (_is_text, _PATHS),
    )  # fmt: skip
    for fits, names in choices:
        found = [
            f.name for f in schema if fits(f.type) and f.name != label and (names is None or f.name.lower() in names)
        ]
        if len(found) > 1:
            found = [name for name in found if name.lower() in _IMAGES] or found
        if len(found) == 1:
            return str(found[0])
        if found:
            raise refusal(
                path, f"must have one image column, and may have {listed(found)}: --set data.columns.image=NAME"
            )
    rule = "must have one image column, the bytes of image files or struct<bytes, path>"
    raise refusal(path, f"{rule}; its columns are {_shown(schema)} (--set data.columns.image=NAME)")


def _label_column(schema: pa.Schema, image: str, path: Path) -> str:
    others = {field.name: field.type for field in schema if field.name != image}
    for name in _LABELS:
        if name in others and kinds.is_integer(others[name]):
            return name
    features = _features(schema, path)
    declared = [n for n in others if isinstance(features.get(n), dict) and features[n].get("_type") == "ClassLabel"]
    known = [name for name in others if name.lower() in _LABELS] or [n for n in others if n.lower() in _OTHER_LABELS]
    rest = [name for name, kind in others.items() if _is_label(kind) and name.lower() not in _NO_LABELS]
    for found in (declared, known, rest):
        if len(found) == 1:
            return str(found[0])
        if found:
            raise refusal(
                path, f"must have one label column, and may have {listed(found)}: --set data.columns.label=NAME"
            )
    raise refusal(path, f"must have a label column; its columns are {_shown(schema)} (--set data.columns.label=NAME)")


def _features(schema: pa.Schema, path: Path) -> dict[str, Any]:
    """The columns' types as the `datasets` library recorded them in the schema; {} without."""
    recorded = (schema.metadata or {}).get(b"huggingface")
    if recorded is None:
        return {}
    try:
        node = json.loads(recorded)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, ValueError(f"its `huggingface` metadata is no JSON: {error}")) from error
    for key in ("info", "features"):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def class_names(schema: pa.Schema, label: str, path: Path) -> tuple[str, ...] | None:
    """The class names that the schema's metadata records for a column.

    Raises:
        ConfigError: if they are damaged.
    """
    feature = _features(schema, path).get(label)
    node = feature.get("names") if isinstance(feature, dict) else None
    if node is None:
        return None
    if isinstance(node, list) and all(isinstance(name, str) for name in node):
        names = tuple(name.encode("utf-8", "replace").decode() for name in node)  # JSON may hold half characters
        if len(set(names)) == len(names):
            return names
    raise unreadable(path, ValueError("the class names in its `huggingface` metadata are no list of distinct names"))


def labels_of(column: pa.ChunkedArray, name: str, path: Path) -> Labels:
    """The labels of a column: integers, whole floats, truth values, texts or categories.

    Raises:
        ConfigError: if it is of another type, or rows have no label.
    """
    kind = column.type
    if not _is_label(kind):
        raise refusal(path, f"must have one label a row, a number or text, and its column `{name}` is of type {kind}")
    if kinds.is_dictionary(kind):
        return labels_of(column.cast(kind.value_type), name, path)
    missing = column.is_null(nan_is_null=kinds.is_floating(kind))
    if _is_text(kind):
        missing = pc.or_kleene(
            missing, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column.cast(pa.string())), ""), True)
        )
    count = pc.sum(missing).as_py() or 0
    if count:
        row = missing.to_pylist().index(True)
        rule = f"must have a label in every row: {count} of `{name}` are null, the first in row {row}; remove such rows"
        raise refusal(path, rule)
    if kinds.is_boolean(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if _is_text(kind):
        encoded = pa.concat_arrays(column.cast(pa.string()).chunks or [pa.array([], pa.string())]).dictionary_encode()
        return Labels(encoded.indices.to_numpy().astype(np.int64), tuple(encoded.dictionary.to_pylist()))
    try:
        return Labels(column.cast(pa.int64()).to_numpy(), None)
    except pa.ArrowInvalid as error:  # a fraction, or a uint64 beyond int64
        if kinds.is_floating(kind):
            rule = f"must have whole numbers or texts as labels, unlike its column `{name}` of type {kind} ({error})"
            raise refusal(path, rule) from error
        raise unreadable(path, error) from error


def split_column(schema: pa.Schema, label: str) -> str | None:
    """The column that may say the split of each row."""
    return next((f.name for f in schema if f.name.lower() in _SPLITS and f.name != label and _is_texts(f.type)), None)


def _is_texts(kind: pa.DataType) -> bool:
    return _is_text(kind.value_type if kinds.is_dictionary(kind) else kind)


def splits_of(column: pa.ChunkedArray, name: str, path: Path) -> list[Split] | None:
    """The split of each row; None if none of the column's words is one.

    Raises:
        ConfigError: if some are, and others are not.
    """
    words = column.cast(pa.string()).to_pylist()
    known = {word: split_of_table(word or "") for word in dict.fromkeys(words)}
    found = [split for word in words if (split := known[word])]
    if found and len(found) < len(words):
        unknown = [str(word) for word, split in known.items() if split is None]
        rule = f"must have train, val or test in each row of `{name}`, unlike {listed(unknown)}: remove such rows"
        raise refusal(path, f"{rule}, or the column")
    return found or None


def groups_of(column: pa.ChunkedArray, name: str, path: Path) -> list[str]:
    """The group of each row: numbers, texts or categories, as text.

    Raises:
        ConfigError: if the column is of another type, or rows have no group.
    """
    kind = column.type
    if not (_is_label(kind) or kinds.is_temporal(kind)):
        rule = f"must name a column of numbers or texts, and that of `{path}` is of type {kind}"
        raise ConfigError.single("data.group_by", name, rule)
    found = [None if value is None else str(value) for value in column.to_pylist()]
    missing = [row for row, value in enumerate(found) if value is None or not value.strip()]
    if missing:
        rule = (
            f"must name a column with a group in every row, and {len(missing):,} of {len(found):,} in `{path}` are "
            f"empty, the first in row {missing[0]}: fill them, or leave these rows out of the file"
        )
        raise ConfigError.single("data.group_by", name, rule)
    return [value for value in found if value is not None]
