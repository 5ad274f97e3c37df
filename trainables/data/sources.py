"""From the words of `data.source` to the source they name. Imports no torch until a download needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.config import ConfigError
from trainables.config.images import Columns, canonical_source, split_source
from trainables.config.plugins import load_plugin
from trainables.data.builtin import Cifar, Digits, Synthetic
from trainables.data.folders import ImageFolder
from trainables.data.parquet import ParquetFiles
from trainables.data.source import Contents, Row, Source

__all__ = ["BUILDERS", "open_source"]

# By the names of trainables.config.images.SOURCES; each takes the path, or "" where there is none.
BUILDERS: dict[str, Callable[[str, Columns, str | None], Source]] = {
    "cifar10": lambda *_: Cifar(10),
    "cifar100": lambda *_: Cifar(100),
    "digits": lambda *_: Digits(),
    "synthetic": lambda *_: Synthetic(),
    "imagefolder": lambda path, *_: ImageFolder.scan(Path(path)),
    "parquet": lambda path, columns, group_by: ParquetFiles.scan(Path(path), columns, group_by),
}


def open_source(source: str, columns: Columns = Columns(), group_by: str | None = None) -> Source:  # noqa: B008 (frozen)
    """Find what a `data.source` names, which `trainables.config.Data` has checked, as `columns` and `group_by`.

    Raises:
        ConfigError: if its path is missing, or holds no images in the layout expected.
    """
    kind, argument = split_source(canonical_source(source))
    if kind in BUILDERS:
        return BUILDERS[kind](argument, columns, group_by)
    built = load_plugin("data_source", kind)(argument)
    for method in ("signature", "contents"):
        if not callable(getattr(built, method, None)):
            rule = f"must name a source of images, which has methods signature() and contents(downloads): no {method}"
            raise ConfigError.single("data.source", source, rule)
    return _PluginSource(source, built)


@dataclass(frozen=True)
class _PluginSource:
    """A plug-in's images under its name, so that two plug-ins with the same signature are not taken for one."""

    name: str
    source: Source

    def signature(self) -> Any:
        return [self.name, self.source.signature()]

    def contents(self, downloads: Path) -> Contents:
        contents = self.source.contents(downloads)
        classes = len(contents.class_names)

        def rows() -> Iterator[Row]:
            for row in contents.rows():
                if not 0 <= row.label < classes:
                    rule = f"must label each image with a class from 0 to {classes - 1}, and {row.name} has {row.label}"
                    raise ConfigError.single("data.source", self.name, rule)
                yield row

        return replace(contents, rows=rows)
