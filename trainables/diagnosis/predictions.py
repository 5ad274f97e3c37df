"""Our validation images for another pipeline, and the predictions that it gives back."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.config import ConfigError
from trainables.data.arrow import EncodedRows
from trainables.data.decode import decode
from trainables.data.image_file import UnreadableImage
from trainables.data.images import Splits
from trainables.data.names import format_of
from trainables.data.source import listed
from trainables.files import replaced

__all__ = ["LIST", "Predictions", "encoded_images", "read_predictions", "write_images"]

LIST = "images.csv"
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp"}
PREFIX = "val-"


@dataclass(frozen=True)
class Predictions:
    """What another pipeline says of validation images: their rows and the classes of the data, both int64 [n]."""

    rows: Tensor
    labels: Tensor


def encoded_images(splits: Splits) -> EncodedRows | None:
    """The validation images as the files that they came as; None where they are stored as pixels."""
    path = splits.store.directory / "val.arrow"
    return EncodedRows(path) if splits.store.encoded else None


def write_images(splits: Splits, folder: Path) -> int:
    """Write the validation images and a list of them, `images.csv` with the columns index, file and label.

    An image is the file that it came as, or a PNG of its pixels. Returns how many there are.

    Raises:
        ConfigError: if the folder cannot be written to.
    """
    names, labels = splits.store.class_names, splits.val.labels.tolist()
    lines = ["index,file,label"]
    for row, (suffix, content) in enumerate(_files(splits)):
        with replaced(folder / f"{PREFIX}{row:05d}{suffix}") as path:
            path.write_bytes(content)
        lines.append(f'{row},{PREFIX}{row:05d}{suffix},"{names[labels[row]]}"')
    with replaced(folder / LIST) as path:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(labels)


def _files(splits: Splits) -> Iterator[tuple[str, bytes]]:
    encoded = encoded_images(splits)
    for row in range(len(splits.val)):
        if encoded is not None:
            content = encoded[row]
            yield SUFFIXES.get(format_of(content[:256]) or "", ".img"), content
            continue
        pixels = splits.val.batch(torch.tensor([row]))[0].permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
        yield ".png", buffer.getvalue()


def read_predictions(path: Path, splits: Splits) -> Predictions:
    """Read a CSV with the columns `file` or `index`, and `label`: a class's name, or its number.

    A file is one that `write_images` wrote, or any whose content is that of a validation image: its path may be
    absolute, or relative to the CSV or to where the command is typed.

    Raises:
        ConfigError: naming the column, file or label that there is not.
    """
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError.single("--predictions", str(path), f"must be a readable CSV file ({error})") from None
    columns = set(lines[0]) if lines else set()
    if "label" not in columns or not columns & {"file", "index"}:
        rule = f"must have the columns `file` or `index`, and `label`; {LIST} of --write-images lists them"
        raise ConfigError.single("--predictions", ", ".join(map(str, columns)) or "nothing", rule)
    key = "index" if "index" in columns else "file"
    known = _Known(splits, path.parent)
    found = {known.row(key, line[key] or ""): known.label(line["label"] or "") for line in lines}
    if unknown := known.unknown:
        rule = f"must be validation images of {splits.store.description[:1] or 'these data'}; --write-images lists them"
        raise ConfigError.single(f"--predictions: {key}", listed(unknown), rule)
    return Predictions(torch.tensor(list(found)), torch.tensor(list(found.values())))


class _Known:
    """The rows of validation images by name and content, and the labels by class name."""

    def __init__(self, splits: Splits, folder: Path) -> None:
        self._splits, self._folder = splits, folder
        self._classes: Mapping[str, int] = {name: label for label, name in enumerate(splits.store.class_names)}
        self._by_content: dict[bytes, int] | None = None
        self.unknown: list[str] = []

    def row(self, key: str, text: str) -> int:
        """The row of an image; -1 for one that is unknown, which is remembered."""
        name = Path(text).stem
        number = text if key == "index" else name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""
        row = int(number) if number.isdecimal() and len(number) < 10 else -1
        if key == "file" and row < 0:
            row = self._by_file(text)
        if not 0 <= row < len(self._splits.val):
            self.unknown.append(text)
            return -1
        return row

    def label(self, text: str) -> int:
        """The label of a class, by its name or, where no class is called so, its number.

        Raises:
            ConfigError: if there is no such class.
        """
        if text in self._classes:
            return self._classes[text]
        if text.isdecimal() and int(text) < len(self._classes):
            return int(text)
        names = listed(list(self._classes), 10)
        raise ConfigError.single("--predictions: label", text, f"must be a class or its number: {names}")

    def _by_file(self, text: str) -> int:
        path = next((p for p in (self._folder / text, Path(text).expanduser()) if p.is_file()), None)
        if path is None:
            return -1
        content = path.read_bytes()
        if self._by_content is None:
            self._by_content = dict(self._contents())
        if self._splits.store.encoded:
            return self._by_content.get(_digest(content), -1)
        try:
            return self._by_content.get(_digest(decode(content).tobytes()), -1)
        except UnreadableImage:
            return -1

    def _contents(self) -> Iterator[tuple[bytes, int]]:
        encoded = encoded_images(self._splits)
        for row in range(len(self._splits.val)):
            if encoded is not None:
                yield _digest(encoded[row]), row
            else:
                pixels = self._splits.val.batch(torch.tensor([row]))[0].numpy()
                yield _digest(np.ascontiguousarray(pixels).tobytes()), row


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
