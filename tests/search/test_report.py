"""`search.report` and `search.report_study`: where the page is written, and how long it is watched."""

from __future__ import annotations

import webbrowser
from contextlib import ExitStack
from pathlib import Path

import pytest

import search
from search.journal.locks import lock
from search.journal.log import Journal
from search.report import report
from tests.conftest import Typed
from tests.search.sample_study import first_session, sample_events, sample_spec, troubled_events, write_study
from tests.search.views.report_pages import Page
from trainables.config import ConfigError
from trainables.files import write_text


def searched(out: Path, name: str = "sample") -> Path:
    spec = sample_spec(name, trials=6)
    return write_study(out / name, spec, sample_events(spec))


def test_the_page_is_beside_the_journal(tmp_path: Path, typed: Typed) -> None:
    searched(tmp_path / "runs")
    done = typed(report, "sample")
    assert (done.returncode, done.stdout) == (0, "report: runs/sample/report.html\n"), done.stderr
    shown = Page((tmp_path / "runs" / "sample" / "report.html").read_text())
    assert shown.headings[0] == "sample"
    assert "finished: 6 of 6 trials have ended" in shown.text


def test_several_studies_are_one_page(tmp_path: Path, typed: Typed) -> None:
    searched(tmp_path / "runs", "one")
    searched(tmp_path / "runs", "two")
    done = typed(report, "one", "two")
    assert done.stdout == "report: runs/report.html\n"
    assert Page((tmp_path / "runs" / "report.html").read_text()).headings[0] == "2 studies"
    assert typed(report, "one", "./runs/two", "--to", "deep/er/x.html").stdout == "report: deep/er/x.html\n"
    assert typed(report, "one", "three").returncode == 2


def test_a_browser_is_opened_if_there_is_one(tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    page = searched(tmp_path / "runs") / "report.html"
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setattr(webbrowser, "_browsers", {})
    assert typed(report, "sample", "--open").stdout.count("\n") == 1
    assert page.exists()
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    assert "there is no browser here" in typed(report, "sample", "--open").stdout


def test_a_search_that_runs_is_watched_until_it_has_ended(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sample_spec(trials=5)
    events = first_session(troubled_events(spec))
    folder = tmp_path / "runs" / "sample"
    write_text(folder / "study.yaml", spec.dump())
    driver = ExitStack()
    driver.enter_context(lock(folder / "journal"))
    journal = Journal(folder / "journal", 1)
    journal.append(*events[:-1])
    pages: list[str] = []

    def wait(seconds: float) -> None:
        pages.append((folder / "report.html").read_text())
        if len(pages) == 2:
            journal.append(events[-1])
            driver.close()

    monkeypatch.setattr("search.report.sleep", wait)
    done = typed(report, "sample", "--watch")
    journal.close()
    assert done.stdout.splitlines() == ["report: runs/sample/report.html", "the search has ended"], done.stderr
    pages.append((folder / "report.html").read_text())
    assert ['http-equiv="refresh" content="10"' in page for page in pages] == [True, True, False]
    assert typed(report, "sample", "--watch").stdout.count("\n") == 1  # nothing to wait for


def test_from_python(tmp_path: Path) -> None:
    folder = searched(tmp_path)
    result = search.open_study(folder)
    assert search.report_study(result) == folder / "report.html"
    assert search.report_study("sample", out=tmp_path, to=tmp_path / "x.html") == tmp_path / "x.html"
    assert search.report_study(result, folder, out=tmp_path) == tmp_path / "report.html"
    with pytest.raises(ConfigError, match="must name a study"):
        search.report_study()
    with pytest.raises(ConfigError, match="there are sample"):
        search.report_study("other", out=tmp_path)
