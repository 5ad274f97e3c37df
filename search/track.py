"""`python -m search.track STUDY`: brings any MLflow up to date with a study's journal, as the search itself would."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from filelock import Timeout
from rich.console import Console
from rich.live import Live
from rich.text import Text

from search.journal.events import Event
from search.journal.locks import holder
from search.journal.state import StudyState
from search.journal.study_folder import find_study, read_study
from search.study.spec import StudySpec
from search.study_argument import STUDY
from search.tracking.projection import RunProjection
from search.tracking.tracker import ATTACHED, writer_lock
from search.tracking.uri import VARIABLE, artifact_root, check_reachable, default_uri, reason, redacted
from search.views.console import say
from search.views.next_commands import open_mlflow
from trainables.cli import run_verb
from trainables.config import ConfigError

__all__ = ["track", "track_study"]

ATTEMPTS = 3  # of writing, while MLflow does not answer


def track(
    study: Annotated[str, STUDY],
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's [default: MLFLOW_TRACKING_URI, else mlflow.db in the results folder]")
    ] = None,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
) -> None:
    """Write a study to MLflow from its journal. What already exists stays, so that twice gives the same."""
    console = Console()
    folder = find_study(study, out)
    _refuse_running(folder)  # before MLflow is loaded, which takes seconds
    uri = tracking_uri or default_uri(folder.parent)
    option = "--tracking-uri" if tracking_uri else VARIABLE
    check_reachable(uri, named=(option, f"correct {option}, or start that server"))
    spec, projection = track_study(folder, uri, option, console)
    refused = sorted(trial for trial, times in projection.refused.items() if times > 1)
    held = len(projection.run_ids) - len(refused)
    written = len(projection.written.difference(refused))
    lines = [
        f"{spec.study}: MLflow at {redacted(uri)} holds {held} trials as the journal does, "
        + ("all written now" if written == held else f"{written} of them written now")
    ]
    if refused:
        lines.append(f"it refused {len(refused)}: {', '.join(map(str, refused))}")
    lines.append(f"compare the trials: {open_mlflow(uri, folder, projection.experiment_id)}")
    for line in lines:
        say(console, line)
    if refused:
        sys.exit(1)


def track_study(folder: Path, uri: str, option: str, console: Console) -> tuple[StudySpec, RunProjection]:
    """Project the study in a folder onto the MLflow at `uri`.

    A study whose driver was killed is shown as interrupted, and continues in MLflow when the search does.

    Raises:
        ConfigError: if the study cannot be read, a driver or another process writes it to MLflow at this moment, or
            MLflow does not take it.
    """
    _refuse_running(folder)
    lock = writer_lock(folder)
    try:
        lock.acquire()
    except Timeout:
        rule = "must not be written to MLflow by another process meanwhile, and is: try again when it has ended"
        raise ConfigError.single("STUDY", folder.name, rule) from None
    except OSError:
        pass  # a folder that can only be read, in which no driver can run either
    try:
        spec, events = read_study(folder)
        return spec, _project(spec, folder, _ended(spec, events), uri, option, console)
    finally:
        lock.release()


def _refuse_running(folder: Path) -> None:
    if held := holder(folder / "journal"):
        rule = (
            f"must not be searched meanwhile, and {held} does, which keeps its MLflow up to date itself: wait for its "
            "end, or stop it"
        )
        raise ConfigError.single("STUDY", folder.name, rule)


def _ended(spec: StudySpec, events: list[Event]) -> list[Event]:
    end = StudyState.of(events).missing_end(spec)
    return events if end is None else [*events, end]


def _project(
    spec: StudySpec, folder: Path, events: list[Event], uri: str, option: str, console: Console
) -> RunProjection:
    def warn(line: str) -> None:
        say(console, line, "yellow")

    projection = RunProjection(uri, spec, artifact_root(uri, folder.parent), warn)
    for event in events:
        projection.take(event)
    for path in filter(Path.exists, map(folder.joinpath, ATTACHED)):
        projection.attach(path.name, path.read_text(encoding="utf-8"))
    left = Live(
        console=console, refresh_per_second=4, transient=True,
        get_renderable=lambda: Text(f"{projection.missing} trials to write to MLflow at {redacted(uri)}"),
    )  # fmt: skip
    failures = 0
    with left:
        while True:
            refused = len(projection.refused)
            try:
                projection.write()
            except Exception as error:  # noqa: BLE001 (stores are plug-ins and raise what they like; reported below)
                if len(projection.refused) == refused:  # not one trial's fault
                    failures += 1
                if failures == ATTEMPTS:
                    rule = (
                        f"must be a place where MLflow can keep runs ({reason(error)}); {projection.missing} trials "
                        "are missing there, and the same command continues"
                    )
                    raise ConfigError.single(option, redacted(uri), rule) from None
                projection.forget()
                time.sleep(failures)
            else:
                return projection


if __name__ == "__main__":
    run_verb(track)
