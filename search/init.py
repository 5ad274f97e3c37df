"""`python -m search.init IMAGES`: a study for images of one's own, with comments, to be edited and searched."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from search.planning.preflight import check_weights
from search.study.spec import StudySpec
from search.study.starter import starter_study
from search.study.validation import FOLDER_NAME
from search.views.next_commands import plugins, program, shown
from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError, Data, PluginModel, validate
from trainables.config.images import SOURCES, canonical_source, split_source
from trainables.config.plugins import allow_plugins, is_dotted_path, package_of, plugin_names
from trainables.data.store import default_cache, described, prepare, request
from trainables.files import write_text

__all__ = ["init"]

FEW = 5000  # training images: fewer than 1,000 each for five classes


def init(
    images: Annotated[str, typer.Argument(help="a folder of images, a Parquet file or folder, or any data.source")],
    model: Annotated[
        str | None,
        typer.Option(
            help="resnetN (18, 34, 50, ... for large images), wrn-DEPTH-WIDTH, a name of timm, or yours: my_net:Net"
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="pretrained weights: a file, or torchvision:DEFAULT [default: from scratch]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="the study's name [default: the folder's]")] = None,
    to: Annotated[Path | None, typer.Option(help="file to write [default: NAME.yaml]")] = None,
    plugin: Plugins = None,
) -> None:
    """Look at images and write a study that fits them: network, objective, what is searched, with comments."""
    named = [package_of(model)] if model is not None and is_dotted_path(model) else []
    allow_plugins([*(plugin or ()), *named])  # whoever types a function's name means to run it
    source = _source(images)
    name = name or re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(split_source(source)[1] or source).stem).strip("-._") or "mine"
    if not FOLDER_NAME.fullmatch(name):
        raise ConfigError.single("--name", name, "must be a plain folder name of letters, digits, _, - and .")
    path = to or Path(f"{name}.yaml")
    if path.exists():
        rule = f"{shown(path)} already exists: give another --name or --to, or remove it"
        raise ConfigError.single("--name" if to is None else "--to", name if to is None else str(path), rule)
    data = validate(Data, {"source": source})
    store = prepare(data, default_cache())
    text, spec, arguments = starter_study(store, source, name, path, model=model, pretrained=weights)
    stores = {request(data): store}
    for line in (*described(stores), *check_weights(spec, stores, default_cache())):
        typer.echo(line)
    if arguments:
        listed = ", ".join(arguments)
        typer.echo(f"to search arguments of {model} as well ({listed}), remove the # before `model:` in {shown(path)}")
    if weights is not None and "frozen_stages" not in spec.space.get("model", {}):
        typer.echo(f"freeze depth is not searched: {_no_stages(spec)} (docs/models.md)")
    write_text(path, text)
    typer.echo(f"\n{shown(path)}: a study of {store.counts['train']:,} training images")
    if weights is None and store.counts["train"] < FEW:
        published = "" if named else ", or --weights torchvision:DEFAULT where the network is one of torchvision's"
        typer.echo(f"few images for a network from scratch: --weights FILE starts from pretrained weights{published}")
    typer.echo("next:")
    for options, purpose in ((" --dry-run", "how long it would take"), ("", "the search")):
        typer.echo(f"  {program('python')} -m search.run {shown(path)}{options}{plugins()}   # {purpose}")


def _no_stages(spec: StudySpec) -> str:
    model = spec.trial_config({}).model
    return f"{model.kind} declares no stages" if isinstance(model, PluginModel) else f"{model.label} has none"


def _source(images: str) -> str:
    """`images` as a `data.source`: of a path that says no kind, by what lies there."""
    path = Path(images).expanduser()
    kind = split_source(images)[0]
    if kind in SOURCES or (not path.exists() and (is_dotted_path(kind) or kind in plugin_names("data_source"))):
        return canonical_source(images)
    if not path.exists():
        rule = "there is no such folder or file: name a folder of images, Parquet"
        raise ConfigError.single("IMAGES", images, f"{rule}, or one of {', '.join(map(str, SOURCES.values()))}")
    tables = path.suffix == ".parquet" or (path.is_dir() and any(path.glob("**/*.parquet")))
    return f"{'parquet' if tables else 'imagefolder'}:{os.path.abspath(path)}"


if __name__ == "__main__":
    run_verb(init)
