"""`python -m search.export STUDY`: the best trial, or any other: its config, to train it again, or its network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from search.journal.error_text import required
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.journal.study_folder import find_study, read_study
from search.storage.checkpoints import checkpoints
from search.storage.location import study_storage
from search.storage.remote import RemoteFolder, local_storage
from search.tracking.uri import check_reachable, default_uri, holds_database
from search.views.model_numbers import model_numbers
from search.views.next_commands import program, shown, verb
from search.views.output_files import best_config
from search.views.refit import chosen_trial
from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError
from trainables.config.plugins import allow_plugins
from trainables.files import write_text

__all__ = ["ExportFormat", "checkpoint_of", "export", "export_config"]

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
    record, chosen, refit = _chosen(result, trial)
    run_id = _run_id(uri, spec.study, state.sessions[0].started, record.number)
    return best_config(result, record, chosen=chosen, refit=refit, mlflow_run_id=run_id), record


def _chosen(result: StudyResult, trial: int | None) -> tuple[TrialRecord, str | None, dict[str, Any] | None]:
    found = chosen_trial(result)
    if trial is None:
        if found is None:
            rule = "must have a completed trial to have a best one; --trial N exports any that has started"
            raise ConfigError.single("STUDY", result.spec.study, rule)
        return found
    for record in [*result.trials, *(run for comparison in result.comparisons for run in comparison.runs)]:
        if record.number == trial:
            return found if found and record is found[0] else (record, "by hand, with --trial", None)
    numbers = [record.number for record in result.trials]
    there = f"0 to {max(numbers)}" if numbers else "none yet"
    raise ConfigError.single("--trial", trial, f"must be a trial of {result.spec.study}: {there}")


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
        str, typer.Argument(help="the study's name: its folder below --out; or the folder's path; or a checkpoint")
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
    if form is not None:
        _export_network(study, trial, form, out, to)
        return
    if Path(study).is_file():
        raise ConfigError.single(
            "--format", None, f"must be given with a checkpoint: {', '.join(get_args(ExportFormat))}"
        )
    folder = find_study(study, out)
    text, record = export_config(folder, default_uri(folder.parent), trial)
    path = to or folder / ("best_config.yaml" if trial is None else f"trial-{trial:04d}.yaml")
    write_text(path, text)
    typer.echo(f"trial {record.number} ({record.origin}, {record.status.value.lower()}): {shown(path)}")
    typer.echo(f"next: {program('python')} -m trainables.train {shown(path)}")


def _export_network(study: str, trial: int | None, form: ExportFormat, out: Path, to: Path | None) -> None:
    if Path(study).is_file():
        if trial is not None or to is None:
            rule = "must be given with a checkpoint" if to is None else "must be left out: a checkpoint is of one trial"
            raise ConfigError.single("--to" if to is None else "--trial", trial, rule)
        written = _write_network(Path(study), form, to, ())
    else:
        folder = find_study(study, out)
        spec, events = read_study(folder)
        result = StudyResult.of(spec, StudyState.of(events), folder)
        record, _, _ = _chosen(result, trial)
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


@contextmanager
def checkpoint_of(result: StudyResult, folder: Path, record: TrialRecord) -> Iterator[Path]:
    """A path of this machine with the furthest checkpoint of a trial, as long as the context lasts.

    Raises:
        ConfigError: if it has none: naming the trials that have one, and how to train this one again.
    """
    study = study_storage(None, folder, smoke=False, fresh=False) or local_storage(folder.absolute())
    with tempfile.TemporaryDirectory() as scratch:
        with required("STUDY", study.location, "must be readable"):
            found = checkpoints(study, record.number)
            if not found:
                raise _without_checkpoint(result, folder, record, study)
            finished = [name for name in found if "-step-" not in name]
            path = study.local((finished or found)[0])
            if path is None:
                path = Path(scratch, "checkpoint.pt")
                study.get((finished or found)[0], path)
        yield path


def _without_checkpoint(result: StudyResult, folder: Path, record: TrialRecord, study: RemoteFolder) -> ConfigError:
    runs = [run for comparison in result.comparisons for run in comparison.runs]
    others = [str(each.number) for each in [*result.trials, *runs] if checkpoints(study, each.number)]
    there = (
        f"--trial {', '.join(others[:10])} {'has' if len(others) == 1 else 'have'} one" if others else "no trial has"
    )
    config = shown(folder / f"trial-{record.number:04d}.yaml")
    again = (
        f"or train it again: {verb('export', folder, '--trial', str(record.number))} && {program('python')} -m "
        f"trainables.train {config} --checkpoint model.pt, then export model.pt"
    )
    rule = f"must have a checkpoint, and its own were deleted or lie elsewhere ({there}); {again}"
    return ConfigError.single("--trial", record.number, rule)


if __name__ == "__main__":
    run_verb(export)
