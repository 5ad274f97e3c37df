"""`python -m search.export STUDY`: the config of the best trial, or of any other, as a file that trains it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.journal.study_folder import find_study, read_study
from search.tracking.uri import check_reachable, default_uri, holds_database
from search.views.next_commands import program, shown
from search.views.output_files import best_config
from search.views.refit import chosen_trial
from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError
from trainables.config.plugins import allow_plugins
from trainables.files import write_text

__all__ = ["export", "export_config"]


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
    study: Annotated[str, typer.Argument(help="the study's name: its folder below --out; or the folder's path")],
    trial: Annotated[int | None, typer.Option(min=0, help="this trial instead of the best")] = None,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
    to: Annotated[
        Path | None,
        typer.Option(help="file to write [default: best_config.yaml or trial-N.yaml in the study's folder]"),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Write one trial's config and where it comes from; `python -m trainables.train FILE` trains it again."""
    allow_plugins(plugin or [])
    folder = find_study(study, out)
    text, record = export_config(folder, default_uri(folder.parent), trial)
    path = to or folder / ("best_config.yaml" if trial is None else f"trial-{trial:04d}.yaml")
    write_text(path, text)
    typer.echo(f"trial {record.number} ({record.origin}, {record.status.value.lower()}): {shown(path)}")
    typer.echo(f"next: {program('python')} -m trainables.train {shown(path)}")


if __name__ == "__main__":
    run_verb(export)
