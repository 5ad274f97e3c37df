"""`python -m trainables.inspect SRC`: what is wrong with images and labels, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from trainables.cli import Plugins, echo_checks, run_verb
from trainables.config import ConfigError, Problem, TrialConfig, merge, parse_config, unflatten
from trainables.config.keys import types_at
from trainables.config.plugins import allow_plugins
from trainables.config.typed import typed_value
from trainables.data.selection import excluded_names
from trainables.files import write_text

__all__ = ["inspect"]

EXCLUDED = "exclude.txt"


def inspect(
    source: Annotated[str, typer.Argument(help="images: imagefolder:PATH, parquet:PATH, digits, cifar10, ...")],
    weights: Annotated[
        str | None, typer.Option(help="pretrained weights, by whose features labels are judged: model.pretrained")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="a key of data or model, or the seed; repeatable"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the page and the JSON file")] = Path("inspection"),
    fix: Annotated[
        Path | None, typer.Option(help="write the images to leave out to this file or folder, for data.exclude")
    ] = None,
    with_suspects: Annotated[
        bool, typer.Option("--with-suspects", help="with --fix: images whose labels are likely wrong, too")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="folder of downloads and prepared images")] = None,
    plugin: Plugins = None,
) -> None:
    """Look for what is wrong with images and labels: twins, wrong labels, other domains, bad images."""
    allow_plugins(plugin or ())
    config = _config(source, weights, sets or ())
    if with_suspects and fix is None:
        raise ConfigError.single("--with-suspects", True, "must be given with --fix, whose list it makes longer")
    for path in (out, *([fix.parent] if fix is not None else [])):
        if path.exists() and not path.is_dir():
            raise ConfigError.single("--out" if path == out else "--fix", str(path), "must be a folder, and is a file")
    from trainables.inspection.doctor import inspect_images  # loads torch and scikit-learn
    from trainables.inspection.page import PAGE, RECORD, write

    found = inspect_images(config, cache=cache, tell=lambda line: typer.echo(line, err=True))
    for line in found.weights:
        typer.echo(line)
    echo_checks(found.checks)
    write(found, out)
    typer.echo(f"page: {out / PAGE}, and all that was found: {out / RECORD}")
    if fix is not None:
        _write_fix(fix, found.left_out, with_suspects, config.data.exclude)


def _config(source: str, weights: str | None, sets: Iterable[str]) -> TrialConfig:
    tree: dict[str, Any] = {"data": {"source": source}}
    problems: list[Problem] = []
    changes: dict[str, Any] = {} if weights is None else {"model.pretrained": weights}
    for text in sets:
        path, equals, written = text.partition("=")
        if not equals or not all(part.isidentifier() for part in path.split(".")):
            problems.append(Problem("--set", text, "must be PATH=VALUE, for example data.resolution=64"))
        elif path in changes or path == "data.source":
            problems.append(Problem(f"--set {path}", written, "must be given once"))
        else:
            try:
                changes[path] = typed_value(written, types_at(TrialConfig, path), f"--set {path}")
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    try:
        tree = merge(tree, unflatten(changes))
    except ValueError as error:
        raise ConfigError.single("--set", list(sets), str(error)) from None
    if "model" in tree:
        tree["model"] = {"kind": TrialConfig().model.kind, **tree["model"]}
    config = parse_config(tree)
    if not config.model.is_network:
        raise ConfigError.single("model.kind", config.model.kind, "must be a network: a synthetic curve sees no images")
    return config


def _write_fix(fix: Path, left_out: dict[str, list[str]], with_suspects: bool, excluded: str | None) -> None:
    before = () if excluded is None else excluded_names(excluded)
    path = fix / EXCLUDED if fix.is_dir() or fix.suffix == "" else fix
    reasons = ["unreadable", "copies", "contradictory", *(["suspects"] if with_suspects else [])]
    parts = {"left out already": before, **{reason: left_out[reason] for reason in reasons}}
    names = {name for part in parts.values() for name in part}
    lines = (line for reason, part in parts.items() if part for line in (f"# {reason}", *part))
    write_text(path, "".join(f"{line}\n" for line in lines))
    counts = ", ".join(f"{len(part):,} {reason}" for reason, part in parts.items() if part) or "nothing was found"
    typer.echo(f"{path}: {len(names):,} images to leave out ({counts}), for --set data.exclude={path}")


if __name__ == "__main__":
    run_verb(inspect)
