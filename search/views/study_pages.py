"""A study's pages behind one address, as a WSGI application: a first page, the report, MLflow and optuna-dashboard."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from search.journal.reference import against_reference
from search.journal.result import StudyResult, collect
from search.journal.study_folder import read_study
from trainables.config import ConfigError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["MLFLOW", "StudyPages"]

MLFLOW = "/mlflow"  # the path below which MLflow's pages are

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}
dt{{margin-top:1rem;font-weight:600}}dd{{margin:0}}</style>
<h1>{name}</h1><p>{found}</p><dl>{entries}</dl></html>"""


class StudyPages:
    """The pages of a study; read from its journal anew whenever one is loaded, so that a search can be watched.

    Args:
        name: the study's.
        folder: the study's; None if only MLflow has it.
        mlflow: answers what is asked below MLFLOW.

    Attributes:
        trials: the page of its trials, below MLFLOW.
    """

    def __init__(self, name: str, folder: Path | None, mlflow: WSGIApplication) -> None:
        self._name, self._folder, self._mlflow = name, folder, mlflow
        self._dashboard: WSGIApplication | None = None
        self._lock = threading.Lock()
        self.trials = "/"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        path = environ.get("PATH_INFO", "/")
        try:
            if path == "/":
                return _answer(start_response, "200 OK", self._first_page())
            if path == "/report.html":
                return self._report(start_response)
            if path.startswith(f"{MLFLOW}/"):
                return self._mlflow(environ, start_response)
            if dashboard := self._optuna(load=path.startswith("/dashboard")):
                return dashboard(environ, start_response)
        except ConfigError as error:
            return _answer(start_response, "500 Internal Server Error", html.escape(str(error)))
        return _answer(start_response, "404 Not Found", "there is no such page")

    def _result(self) -> StudyResult | None:
        if self._folder is None:
            return None
        spec, events = read_study(self._folder)
        return collect(spec, events, self._folder)

    def _report(self, start_response: StartResponse) -> Iterable[bytes]:
        if self._folder is None or not (self._folder / "report.html").exists():
            return _answer(start_response, "404 Not Found", "this study has no report yet")
        return _answer(start_response, "200 OK", (self._folder / "report.html").read_text(encoding="utf-8"))

    def _optuna(self, load: bool) -> WSGIApplication | None:
        """optuna-dashboard on the study as it stands, or with the trials that its page was loaded with."""
        if find_spec("optuna_dashboard") is None:
            return None
        with self._lock:
            if load and (result := self._result()) is not None:
                from optuna.storages import InMemoryStorage
                from optuna_dashboard import wsgi

                from search.algorithms.optuna_export import optuna_study

                storage = InMemoryStorage()
                optuna_study(result.spec, result.trials, storage)
                self._dashboard = wsgi(storage)
            return self._dashboard

    def _first_page(self) -> str:
        found, mlflow = "Its folder is not here: only MLflow has it.", _link(MLFLOW + self.trials, "MLflow")
        entries = [("Trials", mlflow, "best first, with what was searched; curves, comparisons, files")]
        if (result := self._result()) is not None and result.folder is not None:
            found = _found(result)
            report = "python -m search.report writes it"
            if (result.folder / "report.html").exists():
                report = _link("/report.html", "report.html")
            entries.insert(0, ("Report", report, "what was found, why, and what to do next"))
            optuna = "pip install optuna-dashboard, and start this again"
            if find_spec("optuna_dashboard") is not None:
                optuna = _link("/dashboard/studies/0", "optuna-dashboard")
            entries.append(("Importance of settings, parallel coordinates", optuna, "Optuna's view of the same trials"))
        listed = "".join(f"<dt>{what}</dt><dd>{link}: {why}</dd>" for what, link, why in entries)
        return PAGE.format(name=html.escape(self._name), found=html.escape(found), entries=listed)


def _found(result: StudyResult) -> str:
    best, metric = result.best(), result.spec.objective.metric
    ended = sum(record.status.ended for record in result.trials)
    counted = f"{ended} of {len(result.trials)} trials have ended."
    if best is None:
        return f"No trial has completed yet. {counted}"
    gain = against_reference(result.spec, result.trials, best)
    return f"Best: trial {best.number}, {metric} {best.value(metric):.4f}{gain}. {counted}"


def _link(address: str, text: str) -> str:
    return f'<a href="{html.escape(address)}">{text}</a>'


def _answer(start_response: StartResponse, status: str, page: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")])
    return [page.encode()]
