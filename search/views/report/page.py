"""The page of one study, or of several side by side: text and tables as HTML, charts from data that the page carries.

plotly.js is read from the plotly package and written into the page, so that it needs no network, also in ten years.
plotly.py itself is not used: see `figures`. Everything from a study is escaped, by jinja2 in the HTML and by its
`tojson` in the data; the page's policy forbids the browser to load anything else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from search.journal.reference import reference
from search.journal.result import StudyResult
from search.study.trial_tree import compose
from search.tracking.uri import default_uri
from search.views.checks import checked, command_and_words
from search.views.next_commands import after_search, open_mlflow, resume, shown, verb
from search.views.report.answers import Answers, answers
from search.views.report.errors import Errors, errors
from search.views.report.figures import chart_data
from search.views.report.settings import Setting
from search.views.report.tables import Failure, TrialRow, best_settings, effort, failures, trial_rows
from trainables.check import Check, alarms
from trainables.config.plugins import as_recorded
from trainables.files import write_text

__all__ = ["REPORT", "StudyPage", "page", "render", "write_report"]

REPORT = "report.html"
MOST_PRINTED = 60  # rows of the table of trials, on paper


@dataclass(frozen=True)
class StudyPage:
    """All that the template shows of one study, under this name."""

    name: str
    result: StudyResult
    found: Answers
    checks: list[Check]
    settings: list[Setting]
    trials: list[TrialRow]
    failures: list[Failure]
    best_settings: list[tuple[str, str, str, str]]
    effort: dict[str, str]
    errors: Errors | None
    commands: list[tuple[str, str]]
    data: dict[str, Any]

    @classmethod
    def of(cls, result: StudyResult, name: str, thorough: bool = True) -> StudyPage:
        checks, settings = checked(result), Setting.all_of(result.spec)
        found = answers(result, checks, thorough)
        data = {"study": name, **chart_data(result, found)}
        return cls(
            name, result, found, checks, settings, trial_rows(result, settings), failures(result),
            best_settings(result, settings), dict(effort(result)), errors(result), _commands(result), data,
        )  # fmt: skip

    @property
    def alarms(self) -> list[Check]:
        return alarms(self.checks)

    @property
    def quiet(self) -> list[Check]:
        """The checks that are no alarms."""
        return [check for check in self.checks if check.status in ("ok", "unknown")]

    @property
    def reference(self) -> str | None:
        """The recipe that the best is measured against."""
        known = reference(self.result.spec, self.result.trials)
        return None if known is None else known[0]

    @property
    def setup(self) -> str:
        """What each trial trains, how much, and on how many images at most."""
        spec = self.result.spec
        trial = compose(spec.trial, {}, spec.all_fixed)
        data = trial["data"]
        network = [str(value) for key, value in trial["model"].items() if key in ("kind", "name", "depth")]
        caps = [
            f"at most {data[key]:,} {name} images"
            for key, name in (("train_samples", "training"), ("val_samples", "validation")) if data[key] is not None
        ]  # fmt: skip
        proxy = [] if spec.proxy is None else [f"a proxy: the refit trains {spec.own.trial_config({}).model.label}"]
        return ", ".join([" ".join(network), f"{spec.budget.epochs} epochs", *caps, *proxy])

    @property
    def state(self) -> str:
        result = self.result
        ended = sum(record.status.ended for record in result.trials)
        how = "finished" if result.finished else "not finished"
        return f"{how}: {ended:,} of {result.spec.budget.trials:,} trials have ended"


def _names(results: Sequence[StudyResult]) -> list[str]:
    """What the page calls each study: its name, or its folder where two have the same."""
    names = [result.spec.study for result in results]
    return [
        shown(result.folder) if names.count(name) > 1 and result.folder is not None else name
        for result, name in zip(results, names, strict=True)
    ]


def _commands(result: StudyResult) -> list[tuple[str, str]]:
    """What to type next, and what for."""
    folder = result.folder or Path("runs", result.spec.study)
    lines = [] if result.finished else [f"{resume(folder)}   # continue the search"]
    lines += after_search(result, folder, open_mlflow(default_uri(folder.parent), folder))
    lines.append(f"{verb('check', folder)}   # every check, and what to do")
    return [(command, purpose) for command, _, purpose in (line.partition("   # ") for line in lines)]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {"signed": _signed, "capitalized": _capitalized, "command_and_words": command_and_words}
    return environment.get_template("template.html.j2")


def _signed(value: float) -> str:
    return f"{value:+z.4f}"


def _capitalized(text: str) -> str:
    """A sentence with a capital letter, unless it begins with the name of a setting or a trial."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].rstrip(",:").isalpha() else text


def _asset(name: str) -> Markup:
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))  # noqa: S704 (our own file)


def page(results: Sequence[StudyResult], reload: int | None = None, thorough: bool = True) -> str:
    """The page of one study, or of several side by side.

    Args:
        results: the studies, at least one.
        reload: seconds after which the browser loads the page again, for a search that still runs.
        thorough: as `answers` takes it.
    """
    named = zip(results, _names(results), strict=True)
    return render([StudyPage.of(result, name, thorough) for result, name in named], reload)


def render(studies: Sequence[StudyPage], reload: int | None = None) -> str:
    """The page of these studies; see `page`."""
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    text = _template().render(
        studies=studies,
        title=studies[0].name if len(studies) == 1 else f"{len(studies)} studies",
        data=[study.data for study in studies],
        written=time.strftime("%Y-%m-%d %H:%M"),
        reload=reload,
        most_printed=MOST_PRINTED,
        css=_asset("page.css"),
        script=_asset("page.js"),
        plotly=Markup(plotly),  # noqa: S704 (a library's own file)
    )
    return text.encode(errors="backslashreplace").decode()  # a path may hold half characters


@as_recorded()
def write_report(results: Sequence[StudyResult], path: Path, reload: int | None = None, thorough: bool = True) -> None:
    """Write the page to a file, whole or not at all.

    Raises:
        ConfigError: if it cannot be written.
    """
    write_text(path, page(results, reload, thorough))
