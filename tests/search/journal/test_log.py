"""The journal: what was appended is read back, whatever happens to the process, and nothing else is taken for it."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.journal.events import EpochReported, Event, SessionStarted, TrialEnded, TrialStatus, TrialSuggested
from search.journal.log import Journal, next_session, read, segments
from tests.search.sample_study import priced_events, sample_events, sample_spec
from trainables.config import ConfigError
from trainables.result import ClassReport


def result(epoch: int, trial: int = 0, **metrics: float) -> EpochReported:
    return EpochReported(trial=trial, epoch=epoch, metrics=metrics, time=1.5)


def test_every_event_is_read_back_equal(tmp_path: Path) -> None:
    events = [e for e in sample_events(sample_spec()) if "diverged" not in str(e)]
    events = [e for e in events if not (isinstance(e, EpochReported) and math.isnan(e.metrics["train_loss"]))]
    events += priced_events(sample_spec())
    journal = Journal(tmp_path, 1)
    for event in events:
        journal.append(event)
    assert list(read(tmp_path)) == events


def test_a_result_says_only_what_there_is_and_reports_are_read_back(tmp_path: Path) -> None:
    assert not {"best_epoch", "collapsed", "report"} & json.loads(result(1).model_dump_json()).keys()
    report = ClassReport.of(("cat", "dog"), [[3, 1], [2, 4]], 0.125)
    told = result(2).model_copy(update={"best_epoch": 1, "collapsed": "one class", "report": report})
    Journal(tmp_path, 1).append(told)
    assert list(read(tmp_path)) == [told]


scalars = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text()


@settings(max_examples=60)
@given(
    metrics=st.dictionaries(st.text(), st.floats()),  # NaN and the infinities too
    config=st.dictionaries(st.text(), scalars | st.lists(scalars) | st.dictionaries(st.text(), scalars)),
    origin=st.text(),
)
def test_any_number_and_text_survives(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float], config: dict[str, object], origin: str
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    written: list[Event] = [
        TrialSuggested(trial=3, origin=origin, values=None, config=config, time=0.1),
        EpochReported(trial=3, epoch=1, metrics=metrics, time=0.1),
    ]
    Journal(folder, 1).append(*written)
    assert [repr(event) for event in read(folder)] == [repr(event) for event in written]


CHILD = """
import sys
from pathlib import Path
from search.journal.events import EpochReported
from search.journal.log import Journal

journal = Journal(Path(sys.argv[1]), 1)
epoch = 0
while True:
    epoch += 1
    metrics = {f"metric_{i}": epoch / (i + 1) for i in range(int(sys.argv[2]))}
    journal.append(EpochReported(trial=0, epoch=epoch, metrics=metrics, time=epoch))
    print(epoch, flush=True)
"""


@pytest.mark.parametrize("width", [1, 2000])
def test_what_was_appended_outlives_sigkill(tmp_path: Path, width: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), str(width)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(20):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    acknowledged = 20 + len(child.stdout.read().split())
    child.wait()
    read_back = [event.epoch for event in read(tmp_path) if isinstance(event, EpochReported)]
    # One more may have been on disk when its acknowledgement was not yet printed.
    assert read_back in (list(range(1, acknowledged + 1)), list(range(1, acknowledged + 2)))


@pytest.mark.parametrize("torn", [b'{"chain":"00000000","eve', b"\0" * 50, b""])
@pytest.mark.parametrize("whole_lines", [0, 1, 2])
def test_a_line_without_its_newline_was_never_finished(tmp_path: Path, torn: bytes, whole_lines: int) -> None:
    Journal(tmp_path, 1).append(result(1))
    segment = tmp_path / "000001.jsonl"
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:whole_lines]) + torn)
    Journal(tmp_path, 2).append(result(2))
    assert list(read(tmp_path)) == ([result(1), result(2)] if whole_lines == 2 else [result(2)])


def damaged(change: Callable[[list[bytes]], list[bytes]], folder: Path, segment: int = 2) -> Path:
    """A journal of three segments of four lines, of which one segment's lines are changed."""
    for session in (1, 2, 3):
        journal = Journal(folder, session)
        for epoch in (1, 2, 3):
            journal.append(result(epoch, trial=session))
    path = folder / f"{segment:06d}.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    return folder


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda lines: [*lines[:2], *lines[3:]], "000002.jsonl, line 3"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "000002.jsonl, line 3"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "000002.jsonl, line 2"),
        (lambda lines: [*lines[:2], lines[2].replace(b"epoch\":2", b"epoch\":3"), lines[3]], "000002.jsonl, line 3"),
        (lambda lines: [*lines[:2], b"not json\n", lines[3]], "000002.jsonl, line 3"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], "000002.jsonl, line 3"),
        (lambda lines: [*lines[:2], lines[2][:10] + lines[2][18:], lines[3]], "000002.jsonl, line 3"),
        (lambda lines: lines[:-1], "000003.jsonl, line 1"),
        (lambda lines: [], "000003.jsonl, line 1"),
        (lambda lines: lines[1:], "000002.jsonl, line 1"),
    ],
    ids=["removed", "doubled", "moved", "changed", "no line", "empty", "no checksum", "end", "all", "header"],
)  # fmt: skip
def test_damage_is_refused_with_file_and_line(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], place: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{place}: (does not continue the line before|must name the journal's)"):
        list(read(damaged(change, tmp_path)))


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    damaged(lambda lines: lines, tmp_path)
    (tmp_path / "000001.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"000002\.jsonl, line 1: does not continue"):
        list(read(tmp_path))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_changed_bytes_never_give_another_event(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = damaged(lambda lines: lines, tmp_path_factory.mktemp("journal"))
    events, path = list(read(folder)), folder / "000002.jsonl"
    text = path.read_bytes()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    path.write_bytes(text[:start] + data.draw(st.binary(max_size=40)) + text[end:])
    try:
        assert list(read(folder)) == events
    except ConfigError as error:
        assert ".jsonl, line" in str(error)  # noqa: PT017 (the other outcome is fine as well)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (result(1).model_dump_json(), "must name the journal's format"),
        ('{"chain":"00000000","format":2}', "format: must be 1, .* use the version that wrote it, got 2"),
    ],
)
def test_a_journal_of_another_format_is_refused_by_name(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "000001.jsonl").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=rf"000001\.jsonl, line 1.*{says}"):
        list(read(tmp_path))


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (b"[]", "at least 1"),
        (b'[{"event":"explode"}]', "explode"),
        (b'[{"event":"epoch_reported","trial":true,"epoch":1,"metrics":{},"time":1}]', "trial"),
        (b'[{"event":"epoch_reported","trial":0,"epoch":1,"metrics":{},"time":1,"more":2}]', "more"),
        (b'[{"event":"trial_ended","trial":0,"status":"RUNNING","time":1}]', "has ended"),
        (b'[{"event":"trial_ended","trial":0,"status":"FAILED","time":1}]', "why the trial failed"),
        (b'[{"event":"cost_counted","total":1,"rate":1e999,"nodes":{},"time":1}]', "rate"),
    ],
)
def test_an_event_that_is_not_known_is_refused(tmp_path: Path, events: bytes, says: str) -> None:
    Journal(tmp_path, 1)
    (tmp_path / "000001.jsonl").write_bytes(sealed(b'"format":1}', b'"events":' + events + b"}"))
    with pytest.raises(ConfigError, match=rf"000001\.jsonl, line 2.*{says}"):
        list(read(tmp_path))


def sealed(*bodies: bytes) -> bytes:
    """Lines with their checksums."""
    chain, lines = 0, b""
    for body in bodies:
        chain = zlib.crc32(body, chain)
        lines += b'{"chain":"%08x",%s\n' % (chain, body)
    return lines


def test_events_written_at_once_are_all_there_or_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1)
    journal.append(result(1))
    whole = journal.path.stat().st_size
    journal.append(result(2), result(3))
    assert list(read(tmp_path)) == [result(1), result(2), result(3)]
    torn = journal.path.stat().st_size - 1
    for size in (torn, (whole + torn) // 2, whole + 1):
        os.truncate(journal.path, size)
        assert list(read(tmp_path)) == [result(1)]


def test_segments_are_read_in_order_and_other_files_are_none(tmp_path: Path) -> None:
    assert (list(read(tmp_path / "none")), next_session(tmp_path / "none")) == ([], 1)
    for session in (1, 2, 10):
        Journal(tmp_path, session).append(SessionStarted(session=session, time=session, versions={}))
    (tmp_path / "notes.jsonl").write_text("not a segment\n")
    assert [event.session for event in read(tmp_path) if isinstance(event, SessionStarted)] == [1, 2, 10]
    assert [path.name for path in segments(tmp_path)] == ["000001.jsonl", "000002.jsonl", "000010.jsonl"]
    assert next_session(tmp_path) == 11


def test_a_segment_is_never_continued_and_needs_a_folder(tmp_path: Path) -> None:
    Journal(tmp_path, 1).append(result(1))
    with pytest.raises(ConfigError, match="new segment"):
        Journal(tmp_path, 1)
    assert list(read(tmp_path)) == [result(1)]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="writable folder"):
        Journal(tmp_path / "file" / "journal", 1)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1)
    journal.append(result(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 30, hard))
        with pytest.raises(OSError, match="large"):
            journal.append(result(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    journal.append(result(3))
    assert list(read(tmp_path)) == [result(1), result(3)]


def test_any_error_text_can_be_written(tmp_path: Path) -> None:
    error = "x" * 3_000_000 + " at \udcff the end\0"
    Journal(tmp_path, 1).append(TrialEnded(trial=0, status=TrialStatus.FAILED, error=error, time=1))
    (event,) = read(tmp_path)
    assert isinstance(event, TrialEnded)
    assert event.error is not None
    assert event.error.endswith(" at \\udcff the end\0")
