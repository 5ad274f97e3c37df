"""The pages of a study: what they say is in its journal, and what is not there is said."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults

import pytest

from search.views.study_pages import StudyPages
from tests.search.sample_study import EPOCHS, metrics, refit_events, sample_events, sample_spec, write_study

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

SPEC = sample_spec()


def mlflow(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"MLflow at " + environ["PATH_INFO"].encode()]


def get(pages: StudyPages, path: str) -> tuple[str, str]:
    """Status and text of an answer."""
    environ: dict[str, object] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = pages(environ, lambda status, headers, error=None: statuses.append(status))  # type: ignore[arg-type, return-value]
    return statuses[-1], b"".join(body).decode()


def test_the_first_page_says_what_was_found_and_leads_on(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sample", SPEC, refit_events(SPEC))
    pages = StudyPages("sample", folder, mlflow)
    pages.trials = "/#/experiments/1/runs?a=b&c=d"
    status, page = get(pages, "/")
    assert status == "200 OK"
    assert "Best: trial 4, val_accuracy 0.6400, +0.0400 against naive. 6 of 6 trials have ended." in page
    assert 'href="/mlflow/#/experiments/1/runs?a=b&amp;c=d"' in page
    assert 'href="/report.html"' not in page
    assert get(pages, "/report.html")[0].startswith("404")
    (folder / "report.html").write_text("<p>the report: ±</p>", encoding="utf-8")
    assert 'href="/report.html"' in get(pages, "/")[1]
    assert get(pages, "/report.html") == ("200 OK", "<p>the report: ±</p>")
    assert get(pages, "/mlflow/static-files/main.js") == ("200 OK", "MLflow at /mlflow/static-files/main.js")
    assert get(pages, "/mlflow.db")[0].startswith("404")
    assert get(pages, "/../study.yaml")[0].startswith("404")


def test_a_study_that_is_elsewhere_or_damaged_is_said_to_be(tmp_path: Path) -> None:
    status, page = get(StudyPages("<b>", None, mlflow), "/")
    assert (status, "only MLflow has it" in page, "<b>" in page) == ("200 OK", True, False)
    folder = write_study(tmp_path / "sample", SPEC, sample_events(SPEC))
    (folder / "study.yaml").write_text("study: [")
    status, page = get(StudyPages("sample", folder, mlflow), "/")
    assert status.startswith("500")
    assert "study.yaml" in page


def test_optuna_dashboard_shows_the_trials_of_now(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    events = sample_events(SPEC)
    pages = StudyPages("sample", write_study(tmp_path / "sample", SPEC, events), mlflow)
    assert get(pages, "/api/studies")[0].startswith("404")  # nobody has loaded its page
    assert get(pages, "/dashboard/studies/0")[0].startswith("200")
    assert '"sample"' in get(pages, "/api/studies")[1]
    study = json.loads(get(pages, "/api/studies/0")[1])
    assert study["objective_names"] == ["val_accuracy"]
    assert [trial["state"] for trial in study["trials"]] == [
        "Complete",
        "Pruned",
        "Pruned",
        "Fail",
        "Complete",
        "Pruned",
    ]
    assert study["trials"][4]["values"] == [metrics(4, EPOCHS)["val_accuracy"]]
    assert study["union_search_space"][0]["name"] == "optimizer.lr"
