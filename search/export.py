"""`python -m search.export STUDY`: the best trial, or any other: its config, to train it again, or its network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.journal.study_folder import find_study, read_study
from search.study_argument import started_studies
from search.tracking.uri import check_reachable, default_uri, holds_database
from search.views.exported import checkpoint_of, exported_trial
from search.views.model_numbers import model_numbers
from search.views.next_commands import plugins, program, shown
from search.views.output_files import best_config
from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError, Missing
from trainables.config.plugins import allow_plugins
from trainables.files import write_text

__all__ = ["ExportFormat", "export", "export_config"]

ExportFormat = Literal["weights", "onnx", "torchscript", "pt2", "mlflow"]


def export_config(study: Path, uri: str, trial: int | None = None) -> tuple[str, TrialRecord]:
    """The text of a best_config.yaml for the best trial, or for `trial`, of the study in the folder `study`.

    `uri` is MLflow's, from which the run's id comes; null if it does not know the run, or is unreachable.

    Raises:
        ConfigError: if the study cannot be read, has no such trial, or no trial has completed.
    """
    spec, events = read_study(study)
    state = StudyState.of(events)
    result = StudyResult.of(spec, state)
    record, chosen, refit = exported_trial(result, trial)
    run_id = _run_id(uri, spec.study, state.sessions[0].started, record.number)
    return best_config(result, record, chosen=chosen, refit=refit, mlflow_run_id=run_id), record


def _run_id(uri: str, study: str, started: float, trial: int) -> str | None:
    try:
        if uri.startswith("sqlite:") and not holds_database(uri):
            return None
        check_reachable(uri)
    except ConfigError as error:
        typer.echo(f"without the MLflow run's id: {error}")
        return None
    from search.tracking.client import find_run_id  # loads MLflow

    return find_run_id(uri, study, started, trial)


def export(
    study: Annotated[
        str,
        typer.Argument(
            help="the study's name: its folder below --out; or the folder's path; or a checkpoint",
            autocompletion=started_studies,
        ),
    ],
    trial: Annotated[int | None, typer.Option(min=0, help="this trial instead of the best")] = None,
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="export the trained network, not the config")
    ] = None,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
    to: Annotated[
        Path | None,
        typer.Option(
            help="file of the config [default: best_config.yaml or trial-N.yaml in the study's folder], or folder of "
            "the network [default: export-FORMAT there]"
        ),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Write one trial's config, to train it again; with --format its network, to use it anywhere."""
    allow_plugins(plugin or [])
    if Path(study).is_file() and Path(study).suffix in (".yaml", ".yml"):
        raise ConfigError.single("STUDY", study, "must be a study's name or folder, or a checkpoint, not a YAML file")
    if form is not None:
        _export_network(study, trial, form, out, to)
        return
    if Path(study).is_file():
        raise ConfigError.single(
            "--format", Missing, f"must be given with a checkpoint: {', '.join(get_args(ExportFormat))}"
        )
    folder = find_study(study, out)
    text, record = export_config(folder, default_uri(folder.parent), trial)
    path = to or folder / ("best_config.yaml" if trial is None else f"trial-{trial:04d}.yaml")
    write_text(path, text)
    typer.echo(f"trial {record.number} ({record.origin}, {record.status.value.lower()}): {shown(path)}")
    typer.echo(f"next: {program('python')} -m trainables.train {shown(path)}{plugins()}")


def _export_network(study: str, trial: int | None, form: ExportFormat, out: Path, to: Path | None) -> None:
    if Path(study).is_file():
        if to is None:
            raise ConfigError.single("--to", Missing, "must be given with a checkpoint")
        if trial is not None:
            raise ConfigError.single("--trial", trial, "must be left out: a checkpoint is of one trial")
        written = _write_network(Path(study), form, to, ())
    else:
        folder = find_study(study, out)
        spec, events = read_study(folder)
        result = StudyResult.of(spec, StudyState.of(events), folder)
        record, _, _ = exported_trial(result, trial)
        to = to or folder / f"export-{form}"
        with checkpoint_of(result, folder, record) as checkpoint:
            written = _write_network(checkpoint, form, to, model_numbers(result, record))
        typer.echo(f"trial {record.number} ({record.origin}, {record.status.value.lower()}):")
    for path in written:
        typer.echo(f"  {shown(path)}")
    typer.echo(f"next: {program('python')} -m trainables.predict {shown(to)} IMAGES...")


def _write_network(checkpoint: Path, form: ExportFormat, to: Path, numbers: Sequence[str]) -> list[Path]:
    from trainables.prediction.trained import open_checkpoint  # loads torch

    trained = open_checkpoint(checkpoint)
    if form == "mlflow":
        from search.tracking.model_folder import export_mlflow_model  # loads MLflow

        return export_mlflow_model(trained, to, numbers)
    from trainables.prediction.folder import export_model

    return export_model(trained, form, to, numbers)


if __name__ == "__main__":
    run_verb(export)
