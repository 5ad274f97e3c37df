"""The report of a study: what it says, that nothing in it runs, how large it is, and what a browser makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from search.algorithms.intervals import Interval
from search.algorithms.searchers.random import RandomSearcher
from search.journal.events import (
    Arm,
    ComparisonEnded,
    ComparisonStarted,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TestOpened,
    TestScored,
    TrialEnded,
    TrialStatus,
    TrialSuggested,
)
from search.journal.records import Epoch, TrialRecord
from search.journal.result import StudyResult, collect
from search.study.overrides import override
from search.study.parse import load_study
from search.views.next_commands import program
from search.views.report.answers import (
    Answers,
    Candidate,
    Explanation,
    ImportanceRow,
    Refit,
    StepRow,
    Verdict,
)
from search.views.report.page import StudyPage, page, render
from search.views.report.settings import Setting
from search.views.report.tables import best_settings
from tests.search.analysis.studies import searched, spec_of
from tests.search.sample_study import (
    START,
    first_session,
    metrics,
    priced_events,
    sample_events,
    sample_spec,
    suggested,
    troubled_events,
)
from tests.search.views.browser import browser
from tests.search.views.report_pages import Page
from trainables.check import Check
from trainables.result import ClassReport

SPEC = sample_spec(trials=5)
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<!-- {{ 7 * 7 }} &amp; \"'"


def read(text: str) -> Page:
    found = Page(text)
    found.close()
    return found


def sample() -> StudyResult:
    return collect(SPEC, sample_events(SPEC), Path("/studies/sample"))


def test_the_answer_comes_first_and_everything_is_there() -> None:
    shown = read(page([sample()]))
    assert shown.headings == [
        "sample", "The answer", "Can it be trusted?", "Learning curves", "All settings together",
        "Which settings matter", "Each setting by itself", "Every trial", "Time and cost", "Failures",
        "How to reproduce it",
    ]  # fmt: skip
    assert (
        "val_accuracy 0.6400 Trial 4 (random) is the best after 4 epochs: +0.0400 against the recipe naive"
        in shown.text
    )
    assert "Better than the recipes?" in shown.text
    for line in ("digits: 10 classes", "f00d", "abc123", "torch 2.14.1", "weights: 44 of 44", "/studies/sample"):
        assert line in shown.text
    assert "-m search.report sample --open" in shown.text
    assert shown.table("setting")[1] == ["optimizer.lr", "0.005", "0.001", "0.0001 to 1, log"]


def test_of_a_next_step_only_the_command_is_in_code_font() -> None:
    command = f"{program('python')} -m search.run sample"
    checks = [Check("a", "warning", "x", f"{command}   # or wait"), Check("b", "problem", "x", "use the recipe")]
    text = render([replace(StudyPage.of(sample(), "sample"), checks=checks)])
    assert f"next: <code>{command}</code> (or wait)</div>" in text
    assert "next: use the recipe</div>" in text


def test_every_trial_says_why_it_ended() -> None:
    rows = read(page([sample()])).table("trial")
    assert rows[0] == ["trial", "from", "state", "epochs", "val_accuracy", "why it ended", "seconds", "optimizer.lr"]
    assert [row[0] for row in rows[1:]] == ["4", "0", "5", "1", "2", "3"]  # the best first
    why = {row[0]: row[5] for row in rows[1:]}
    assert why["0"] == "epochs"
    assert why["1"] == "rung 2: 0.5600 < 0.7000"
    assert why["2"] == "diverged"
    assert why["3"] == "failed: RuntimeError: boom"


def test_failures_are_counted_by_their_error() -> None:
    endings = [TrialStatus.COMPLETED, *[TrialStatus.FAILED] * 40, *[TrialStatus.DIVERGED] * 2]
    spec = sample_spec(trials=43)
    rows = read(page([collect(spec, sample_events(spec, endings))])).table("state")
    assert [row[:3] for row in rows[1:]] == [
        ["failed", "failed: RuntimeError: boom", "40"], ["diverged", "diverged", "2"],
    ]  # fmt: skip
    assert rows[1][3].startswith("1, 2, 3,")
    assert rows[1][3].endswith("30 ...")


def test_time_and_cost() -> None:
    shown = read(page([collect(SPEC, priced_events(SPEC))]))
    assert "trials 5 of 5 have ended: 2 completed, 2 stopped, 1 failed" in shown.text
    assert "epochs 12 trained; 5 whole trials would be 20 (60%)" in shown.text
    assert re.search(r"cost 0\.0\d+ ", shown.text)


def test_a_study_without_trials_and_one_that_runs() -> None:
    began = SessionStarted(session=1, time=START, versions={})
    shown = read(page([collect(SPEC, [])]))
    assert "No trial has begun." in shown.text
    assert shown.data[0]["number"] == []
    assert read(page([collect(SPEC, [began])])).headings[1] == "The answer"
    first = collect(SPEC, first_session(troubled_events(SPEC))[:-1])
    shown = read(page([first], reload=10))
    assert "not finished: 2 of 5 trials have ended" in shown.text
    assert "-m search.run" in shown.text  # how to continue
    assert ("meta", {"http-equiv": "refresh", "content": "10"}) in shown.tags
    assert "refresh" not in page([first]).partition("<title>")[0]
    nothing = read(page([collect(SPEC, [began, suggested(SPEC, 0)])]))
    assert "No trial has completed" in nothing.text


def hostile() -> StudyResult:
    """A study in which every name and text that comes from outside is an attack."""
    tree = SPEC.model_dump()
    option = f"imagefolder:/x/{HOSTILE}"
    tree["space"]["data"] = {"source": {"choice": ["synthetic", option]}}
    tree["recipes"] = {HOSTILE: {"config": {"optimizer": {"lr": 0.01}}}}
    spec = type(SPEC).model_validate(tree)
    bad = {"optimizer.lr": 0.01, "data.source": option}
    config = SPEC.trial_config({}).model_dump(mode="json")
    events: list[Event] = [
        SessionStarted(
            session=1, time=START, versions={HOSTILE: HOSTILE}, git=HOSTILE, fingerprint=HOSTILE, images=(HOSTILE,),
            weights=(HOSTILE,),
        )
    ]  # fmt: skip
    for trial in range(3):
        origin = f"recipe:{HOSTILE}" if trial == 0 else HOSTILE
        events.append(TrialSuggested(trial=trial, origin=origin, values=bad, config=config, time=START))
        events += [
            EpochReported(trial=trial, epoch=epoch, metrics=metrics(trial, epoch), time=START + epoch)
            for epoch in range(1, 5)
        ]
        status = TrialStatus.FAILED if trial == 2 else TrialStatus.COMPLETED
        error = HOSTILE if trial == 2 else None
        events.append(TrialEnded(trial=trial, status=status, stop_reason=HOSTILE, error=error, time=START + 9))
    events.append(SessionEnded(session=1, reason="finished", time=START + 10))
    return replace(collect(spec, events, Path(f"/x/\udcff{HOSTILE}")), finished=True)


def test_nothing_that_a_study_says_is_markup_or_runs() -> None:
    text = page([hostile()])
    shown = read(text)
    assert len(shown.scripts) == 3  # the data, plotly and our own
    assert not [tag for tag in shown.tags if tag[0] == "img"]
    assert "{{ 7 * 7 }}" in shown.text
    assert HOSTILE in shown.data[0]["from"]
    assert HOSTILE.splitlines()[0] in "".join(shown.texts)
    policy = next(
        attributes["content"]
        for tag, attributes in shown.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not [a for _, a in shown.tags if str(a.get("src") or a.get("href") or "#")[0] != "#"]  # nothing to load


def test_the_page_of_a_thousand_long_trials_is_below_6_mb() -> None:
    spec = override(load_study("digits_resnet8"), epochs=100)
    searcher, config = RandomSearcher(spec.parsed_space, 0), spec.trial_config({}).model_dump(mode="json")
    records = []
    for number in range(1000):
        point = searcher.suggest(number)
        assert point is not None
        curve = tuple(
            Epoch(epoch, {"val_accuracy": 1 - 1 / (epoch + number / 700), "seconds": 1.234}) for epoch in range(1, 101)
        )
        records.append(
            TrialRecord(
                number,
                "random",
                point.values,
                config,
                TrialStatus.COMPLETED,
                "epochs",
                curve,
                started=START,
                ended=START + number,
            )
        )
    text = page([StudyResult(spec, records)])
    assert len(text.encode()) < 6_000_000
    shown = read(text)
    assert len(shown.table("trial")) == 1001
    epochs, values = shown.data[0]["curves"][0]
    assert (len(values), epochs[0], epochs[-1], values[-1]) == (40, 1, 100, 0.99)


def comparison_events() -> list[Event]:
    """A refit of trial 4 and the recipe over three seeds each, and an explanation in two steps."""
    recipe, best = (SPEC.trial_config({"optimizer": {"lr": lr}}).model_dump(mode="json") for lr in (0.001, 0.005))
    told: dict[str, list[float]] = {
        "refit:trial 4": [0.61, 0.62, 0.63], "refit:naive": [0.60, 0.60, 0.60],
        "explain:baseline": [0.6, 0.61], "explain:best": [0.62, 0.63],
    }  # fmt: skip
    refit = (
        Arm(name="trial 4", role="finalist", config=best, trial=4),
        Arm(name="naive", role="reference", config=recipe, trial=0),
    )
    path = (
        Arm(name="baseline", role="baseline", config=recipe),
        Arm(name="best", role="best", config=best, change="optimizer.lr 0.001 to 0.005"),
    )
    common = {"first_seed": 1000, "most_runs": 3, "time": START + 200}
    events: list[Event] = []
    number = 10
    for which, (kind, arms) in enumerate((("refit", refit), ("explain", path)), start=1):
        reference = "naive" if kind == "refit" else None
        events.append(
            ComparisonStarted.model_validate(
                {**common, "comparison": which, "kind": kind, "arms": arms, "reference": reference}
            )
        )
        for arm in arms:
            for index, value in enumerate(told[f"{kind}:{arm.name}"]):
                config = {**arm.config, "seed": 1000 + index}
                events += [
                    TrialSuggested(
                        trial=number, origin=f"{kind}:{arm.name}", values=None, config=config, time=START + 201
                    ),
                    EpochReported(trial=number, epoch=4, metrics={"val_accuracy": value}, last=True, time=START + 202),
                    TrialEnded(trial=number, status=TrialStatus.COMPLETED, stop_reason="epochs", time=START + 203),
                ]
                number += 1
        if kind == "refit":
            events.append(
                ComparisonEnded(comparison=1, reason="decided after 3 seeds", winner="trial 4", time=START + 204)
            )
            events.append(TestOpened(comparison=1, trials=(10, 11, 12), time=START + 205))
            scores = {run: {"accuracy": 0.6} for run in (10, 11, 12)}
            events.append(TestScored(comparison=1, images=500, scores=scores, time=START + 206))
    return events


def test_refit_and_explanation_come_from_the_journal() -> None:
    shown = read(page([collect(SPEC, [*sample_events(SPEC), *comparison_events()])]))
    assert shown.headings.index("What bought what") == 3
    assert "Trial 4: 0.6400 in the search, 0.6200 [" in shown.text
    assert " over 3 seeds: " in shown.text
    assert "Test split: 0.6000" in shown.text
    heads = "on the test split: the number to quote 0.6000", "the mean over 3 fresh seeds: used to choose 0.6200"
    assert all(head in shown.text for head in heads)
    assert shown.text.index(heads[0]) < shown.text.index(heads[1])
    rows = shown.table("config")
    assert [row[:2] for row in rows[1:]] == [["trial 4", "0.6400"], ["naive (reference)", "0.6000"]]
    assert rows[1][2].startswith("0.6200 [")
    assert rows[1][3] == "3"
    change = shown.table("change")[1]
    assert (change[0], change[1][:7], change[2]) == ("optimizer.lr 0.001 to 0.005", "+0.0200", "2")
    step = ["optimizer.lr 0.001 to 0.005", 0.02, "relative"]
    assert shown.data[0]["steps"] == [["baseline", 0.605, "absolute"], step, ["best", None, "total"]]


def reported(report: ClassReport) -> StudyResult:
    """The sample, whose best trial has this report."""
    events = [
        event.model_copy(update={"report": report}) if isinstance(event, EpochReported) and event.last else event
        for event in sample_events(SPEC)
    ]
    return collect(SPEC, events, Path("/studies/sample"))


def test_where_the_best_errs() -> None:
    report = ClassReport.of(["cat", HOSTILE, "dog"], [[8, 0, 2], [0, 5, 0], [1, 0, 4]], 0.123)
    shown = read(page([reported(report)]))
    assert shown.headings[3] == "Where it is wrong"
    assert "Trial 4 on 20 validation images: accuracy 0.8500; its probabilities are 12.3 points from" in shown.text
    assert shown.table("class")[1:] == [
        ["dog", "5", "0.667", "0.800", "0.727", "cat (1)"], ["cat", "10", "0.889", "0.800", "0.842", "dog (2)"],
        [HOSTILE, "5", "1.000", "1.000", "1.000", ""],
    ]  # fmt: skip
    assert [rows for rows in shown.tables if rows[0] == ["", *report.class_names]] == [
        [["", *report.class_names], ["cat", "8", "", "2"], [HOSTILE, "", "5", ""], ["dog", "1", "", "4"]]
    ]
    assert not [attributes for tag, attributes in shown.tags if tag == "img"]


def test_many_classes_are_named_by_their_most_frequent_confusions() -> None:
    counts = np.eye(1000, dtype=int) * 8 + np.eye(1000, k=1, dtype=int) + np.eye(1000, k=2, dtype=int)
    counts[0, 5], counts[0, 0] = 7, 0
    text = page([reported(ClassReport.of([f"class {number}" for number in range(1000)], counts.tolist(), 0.01))])
    shown = read(text)
    pairs = next(rows for rows in shown.tables if rows[0] == ["class", "taken for", "images"])
    assert (pairs[1], len(pairs)) == (["class 0", "class 5", "7"], 21)
    classes = next(rows for rows in shown.tables if rows[0][:2] == ["class", "images"])
    assert (classes[1][0], len(classes)) == ("class 0", 101)
    assert "Classes, the worst first, and what each is most often taken for; 900 better ones are left out" in shown.text
    assert len(text) - len(page([sample()])) < 50_000


WINNER = Candidate("trial 4", 0.643, Interval(0.618, 0.615, 0.621), 5, "winner", True)
STEPS = (
    StepRow("lr", "lr", Interval(0.03, 0.02, 0.04), 5),
    StepRow("decay", "decay", Interval(0.01, -0.01, 0.03), 5, "within the noise"),
)
MADE = Answers(
    Verdict(4, "random", 0.64, 4, (("naive", 0.04),), Check("against recipes", "ok", "better by far")),
    Refit((WINNER,), ("trial 4 wins",), "fresh seeds"),
    Explanation("naive", 0.6, STEPS, ("momentum was never tried",)),
    (ImportanceRow("optimizer.lr", 0.8, 0.7, 0.9),),
    "a guess",
)


def test_intervals_are_shown() -> None:
    shown = read(render([replace(StudyPage.of(sample(), "sample"), found=MADE)]))
    assert "Better than the recipes? Yes. Better by far." in shown.text
    assert shown.table("config")[1][1:4] == ["0.6430", "0.6180 [0.6150, 0.6210]", "5"]
    rows = shown.table("change")[1:]
    assert [row[3] for row in rows] == ["", "within the noise"]
    assert "Momentum was never tried" in shown.text
    assert [[cell.strip() for cell in rows[1]] for rows in shown.tables if rows[0][1] == "share"] == [
        ["optimizer.lr", "80 %", "70 to 90 %"]
    ]


def test_several_studies_stand_side_by_side() -> None:
    other = collect(sample_spec("other"), sample_events(sample_spec("other"), [TrialStatus.FAILED]))
    shown = read(page([sample(), other, replace(sample(), folder=Path("/elsewhere/sample"))]))
    assert shown.headings[:2] == ["3 studies", "Side by side"]
    rows = shown.table("study")
    assert [row[0] for row in rows[1:]] == ["/studies/sample", "other", "/elsewhere/sample"]
    assert [row[1] for row in rows[1:]] == ["val_accuracy 0.6400", "none yet", "val_accuracy 0.6400"]
    assert [heading for heading in shown.headings if "sample" in heading or heading == "other"] == [
        row[0] for row in rows[1:]
    ]
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_settings_of_recipes_outside_the_space() -> None:
    spec = load_study("digits_resnet8")
    naive = TrialRecord(
        1, "recipe:naive", None, spec.trial_config(spec.recipes["naive"].config).model_dump(mode="json")
    )
    texts = {setting.label: setting.text(naive) for setting in Setting.all_of(spec)}
    assert texts["optimizer.kind"] == "adam"
    assert texts["optimizer.lr (sgd)"] == ""
    assert texts["augment.strength"] == "0"
    assert texts["batch_size"] == "128"
    tuned = spec.trial_config({"optimizer": {"kind": "adamw", "lr": 0.01}}).model_dump(mode="json")
    values = {"optimizer.kind": "adamw", "optimizer.kind=adamw/optimizer.lr": 0.01}
    for best, own in ((naive, ("0.001", "", "not searched")), (TrialRecord(1, "tpe", values, tuned), None)):
        ended = replace(best, status=TrialStatus.COMPLETED, history=(Epoch(9, {"val_accuracy": 0.9}),))
        rows = {name: rest for name, *rest in best_settings(StudyResult(spec, [ended]), Setting.all_of(spec))}
        assert rows.get("optimizer.lr (adam)") == (own and list(own))
        assert ("not searched" in {rest[-1] for rest in rows.values()}) == (own is not None)


SORT = """(() => {
const heads = [...document.querySelectorAll(".trials thead th")];
const order = () => [...document.querySelectorAll(".trials tbody tr")].filter(row => !row.hidden)
  .map(row => Number(row.cells[0].textContent));
const found = {first: order()};
for (const name of ["up", "down"]) {
  heads[0].firstElementChild.click();
  found[name] = [order(), heads[0].getAttribute("aria-sort")];
}
heads.find(head => head.textContent === "augment.strength").firstElementChild.click();
found.strength = order();
const filter = document.querySelector("[data-filter]");
filter.value = "random COMPLETED";
filter.dispatchEvent(new Event("input"));
found.filtered = order();
found.output = document.querySelector("output").textContent;
return found;
})()"""
COLOR = """(() => {
const curves = document.querySelector("[data-kind=curves]"), select = document.querySelector("[data-color]");
const before = curves.data.map(trace => trace.name);
select.value = "2";
select.dispatchEvent(new Event("change"));
return [before, curves.data.map(trace => trace.name)];
})()"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_in_a_browser_the_table_sorts_and_filters_and_charts_are_drawn(tmp_path: Path) -> None:
    result = searched(spec_of(trials=30))
    best = result.best()
    assert best is not None
    report = ClassReport.of([f"a class with a long name {n}" for n in range(30)], (np.eye(30) * 9 + 1).tolist(), 0.1)
    study = replace(StudyPage.of(result, "made-up"), errors=StudyPage.of(reported(report), "sample").errors)
    steps = [["naive", 0.6, "absolute"], ["lr", 0.03, "relative"], ["best", None, "total"]]
    path = write(tmp_path / "page.html", render([replace(study, found=MADE, data={**study.data, "steps": steps})]))
    with browser(tmp_path / "profile") as tab:
        tab.show(path, width=390, scheme="dark")
        assert tab.run("document.querySelectorAll('.plot .main-svg').length") == 3 * (4 + 3)  # three layers each
        assert tab.run("document.documentElement.scrollWidth") == 390  # nothing is wider than a phone
        sorts, (before, after) = tab.run(SORT), tab.run(COLOR)
        assert tab.problems == []
    assert sorts["first"][0] == best.number
    assert sorts["up"] == [list(range(30)), "ascending"]
    assert sorts["down"] == [list(reversed(range(30))), "descending"]
    strength = {r.number: r.values["augment.strength"] for r in result.trials if r.recipe is None and r.values}
    assert [number for number in sorts["strength"] if number] == sorted(
        strength, key=lambda number: (float(f"{strength[number]:.4g}"), -number)
    )
    completed = {r.number for r in result.trials if r.status is TrialStatus.COMPLETED and r.recipe is None}
    assert set(sorts["filtered"]) == completed
    assert sorts["output"] == f"{len(completed)} of 30 trials"
    assert {"trained to the end", "stopped at epoch 1", f"best: trial {best.number}"} <= set(before)
    assert after[:-1] == ["32", "64", "128"]  # the recipe has one outside the space


OPEN = """(async () => {
const closed = document.querySelectorAll(".study")[1], plots = [...closed.querySelectorAll(".plot")];
const drawn = () => plots.filter(div => div.querySelector(".main-svg")).length;
const before = drawn();
document.querySelector("[data-opens=study-1]").click();
while (drawn() < plots.length) await new Promise(done => setTimeout(done, 50));
return [before, closed.open];
})()"""


def test_in_a_browser_a_second_study_opens_and_hostile_names_do_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "page.html", page([sample(), hostile()]))
    with browser(tmp_path / "profile") as tab:
        tab.show(path)
        assert tab.run(OPEN) == [0, True]
        assert tab.run("document.querySelectorAll('img, svg image').length") == 0
        assert tab.problems == []
