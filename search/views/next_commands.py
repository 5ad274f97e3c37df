"""What a user would type next, as it can be typed from here."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from search.journal.result import StudyResult
from search.tracking.uri import default_uri, experiment_page
from trainables.config.plugins import named_plugins

__all__ = [
    "SUBMITTED_BY", "after_search", "elsewhere", "open_mlflow", "plugins", "program", "resume", "shown", "verb",
]  # fmt: skip

WITH_PLUGINS = ("explain", "refit", "export")  # the verbs on a study that run the code of its plug-ins
SUBMITTED_BY = "RESNET_SEARCH_SUBMITTED"  # set where a search was sent from another machine, which tells what to type


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    path = path.absolute()
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def program(name: str) -> str:
    """How a program of this environment is typed: by name where the shell finds it, else by path."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found is not None and Path(found) == here else shown(here)


def elsewhere(out: Path) -> str:
    """The option that names the results folder, with a space before it; empty where it is the default."""
    return f" --out {shown(out)}" if out.absolute() != Path("runs").absolute() else ""


def resume(folder: Path) -> str:
    """The command that continues the study in a folder."""
    return f"{program('python')} -m search.run {shown(folder / 'study.yaml')}{elsewhere(folder.parent)}{plugins()}"


def plugins() -> str:
    """The options that allow the plug-ins that were allowed here, or that a study names, with a space before each."""
    return "".join(f" --plugin {package}" for package in named_plugins())


def verb(name: str, folder: Path, *options: str) -> str:
    """A verb on the study in a folder, with options of its own: `verb("report", folder, "--open")`."""
    words = [program("python"), "-m", f"search.{name}", shlex.quote(folder.name), *options]
    return f"{' '.join(words)}{elsewhere(folder.parent)}{plugins() if name in WITH_PLUGINS else ''}"


def open_mlflow(uri: str, folder: Path, experiment_id: str | None = None) -> str:
    """How to look at what MLflow keeps at `uri` of the study in a folder.

    `experiment_id` is MLflow's, if it is known. A password in the URI is in the environment, as the search had it.
    """
    if uri.startswith(("http:", "https:")) and experiment_id:
        return f"open {experiment_page(uri, experiment_id)}"
    command = verb("ui", folder)
    if uri.startswith("sqlite:///") and uri != default_uri(folder.parent):
        path = Path(uri.removeprefix("sqlite:///"))
        return f"MLFLOW_TRACKING_URI=sqlite:///{shown(path)} {command}"
    return command


def after_search(result: StudyResult, folder: Path, compare: str, where: str = "") -> Iterator[str]:
    """The commands that a user would type after a search, each with its purpose as a comment.

    A search that is not over is only looked at: what judges its result is left out.

    Args:
        result: of the search.
        folder: the study's on this machine.
        compare: the command that shows all trials.
        where: added to the purpose of training the best trial again.
    """
    yield f"{verb('report', folder, '--open')}   # the whole search on one page"
    if result.best() is not None:
        config = shown(folder / "best_config.yaml")
        yield f"{program('python')} -m trainables.train {config}{plugins()}   # the same trial again{where}"
        if result.finished and result.latest("refit") is None:
            yield f"{verb('refit', folder)}   # was it luck? trained again, then the test split"
        elif result.finished:
            yield f"{verb('explain', folder)}   # which change bought how much"
        yield f"{verb('export', folder, '--format', 'pt2')}   # the network itself, ready to predict"
    yield f"{compare}   # compare the trials"
