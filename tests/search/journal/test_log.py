"""The journal: what was appended is read back, whatever happens to the process, and nothing else is taken for it."""

from __future__ import annotations

import fcntl
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.journal.events import EpochReported, Event, SessionStarted, TrialEnded, TrialStatus, TrialSuggested
from search.journal.log import Journal, holder, lock, next_session, read, segments
from tests.search.sample_study import priced_events, sample_events, sample_spec
from trainables.config import ConfigError


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


scalars = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text()


@settings(max_examples=60)
@given(
    metrics=st.dictionaries(st.text(), st.floats()),
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


def test_values_that_are_not_finite_survive(tmp_path: Path) -> None:
    Journal(tmp_path, 1).append(result(1, a=math.nan, b=math.inf, c=-math.inf))
    (event,) = read(tmp_path)
    assert isinstance(event, EpochReported)
    assert math.isnan(event.metrics["a"])
    assert (event.metrics["b"], event.metrics["c"]) == (math.inf, -math.inf)


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


@pytest.mark.parametrize(
    "torn", [b'{"event":"result","tri', b'{"event":"close","session":1,"reason":"x","time":1}', b"\0" * 50]
)
def test_a_line_without_its_newline_was_never_finished(tmp_path: Path, torn: bytes) -> None:
    Journal(tmp_path, 1).append(result(1))
    with (tmp_path / "000001.jsonl").open("ab") as file:
        file.write(torn)
    Journal(tmp_path, 2).append(result(2))
    assert list(read(tmp_path)) == [result(1), result(2)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"not json", "Invalid JSON"),
        (b"[]", "at least 1"),
        (b'{"event":"explode"}', "explode"),
        (b'{"event":"result","trial":0,"epoch":0,"metrics":{},"time":1}', "epoch"),
        (b'{"event":"result","trial":true,"epoch":1,"metrics":{},"time":1}', "trial"),
        (b'{"event":"result","trial":0,"epoch":1,"metrics":{"a":"b"},"time":1}', "metrics"),
        (b'{"event":"result","trial":0,"epoch":1,"metrics":{},"time":1,"more":2}', "more"),
        (b'{"event":"end","trial":0,"status":"FAILED","time":1}', "why the trial failed"),
        (b'{"event":"end","trial":0,"status":"RUNNING","time":1}', "has ended"),
        (b'{"event":"cost","total":-1,"rate":1,"nodes":{},"time":1}', "total"),
        (b'{"event":"cost","total":1,"rate":1e999,"nodes":{},"time":1}', "rate"),
        (b'{"event":"cost","total":1,"rate":1,"nodes":{"gpu":0},"time":1}', "nodes.gpu"),
        (b"[" * 100_000, "Invalid JSON"),
        (b'{"event":"suggest","trial":0,"origin":"x","values":{"a":' + b"9" * 9000 + b"}}", "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"x" * 2_000_000, "shorter"),
        (b"", "Invalid JSON"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, line: bytes, says: str) -> None:
    Journal(tmp_path, 1).append(result(1))
    with (tmp_path / "000001.jsonl").open("ab") as file:
        file.write(line + b"\n")
    Journal(tmp_path, 2).append(result(2))
    with pytest.raises(ConfigError, match=rf"000001\.jsonl, line 2.*{says}"):
        list(read(tmp_path))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_journal_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = folder / "000001.jsonl"
    lines = b"".join(event.model_dump_json().encode() + b"\n" for event in sample_events(sample_spec())[:12])
    start = data.draw(st.integers(0, len(lines)))
    end = data.draw(st.integers(start, min(len(lines), start + 40)))
    path.write_bytes(lines[:start] + data.draw(st.binary(max_size=40)) + lines[end:])
    try:
        events = list(read(folder))
    except ConfigError as error:
        assert "000001.jsonl, line" in str(error)  # noqa: PT017 (the other outcome is fine as well)
    else:
        assert all(isinstance(event, Event) for event in events)


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
    for session in (2, 10, 1):
        Journal(tmp_path, session).append(SessionStarted(session=session, time=session, versions={}))
    (tmp_path / "notes.jsonl").write_text("not a segment\n")
    assert [event.session for event in read(tmp_path) if isinstance(event, SessionStarted)] == [1, 2, 10]
    assert [path.name for path in segments(tmp_path)] == ["000001.jsonl", "000002.jsonl", "000010.jsonl"]
    assert next_session(tmp_path) == 11


def test_a_segment_is_never_continued(tmp_path: Path) -> None:
    Journal(tmp_path, 1).append(result(1))
    with pytest.raises(ConfigError, match="new segment"):
        Journal(tmp_path, 1)
    assert list(read(tmp_path)) == [result(1)]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="writable folder"):
        Journal(tmp_path / "file" / "journal", 1)
    with pytest.raises(ConfigError, match="writable folder"), lock(tmp_path / "file" / "journal"):
        pass


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


def test_it_is_read_while_it_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1)
    for epoch in range(1, 50):
        journal.append(result(epoch))
        assert [e.epoch for e in read(tmp_path) if isinstance(e, EpochReported)] == list(range(1, epoch + 1))


def test_a_second_driver_is_refused_and_told_who_holds_the_study(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    first = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from search.journal.log import lock\n"
         "with lock(Path(sys.argv[1])): print('held', flush=True); input()", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    named = f"process {first.pid} on {os.uname().nodename}"
    with pytest.raises(ConfigError, match=f"running search.*{named}"), lock(tmp_path):
        pass
    assert holder(tmp_path) == named
    first.kill()
    first.communicate()
    assert holder(tmp_path) is None
    with lock(tmp_path):  # a driver that was killed holds nothing
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()
    with lock(tmp_path):
        pass


def test_whoever_asks_for_the_holder_keeps_nobody_out(tmp_path: Path) -> None:
    with lock(tmp_path):
        pass
    with (tmp_path / "lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert holder(tmp_path) is None
        ends = threading.Timer(0.02, asking.close)
        ends.start()
        with lock(tmp_path):
            assert holder(tmp_path) is not None
        ends.join()


def test_any_error_text_can_be_written(tmp_path: Path) -> None:
    error = "x" * 3_000_000 + " at \udcff the end\0"
    Journal(tmp_path, 1).append(TrialEnded(trial=0, status=TrialStatus.FAILED, error=error, time=1))
    (event,) = read(tmp_path)
    assert isinstance(event, TrialEnded)
    assert event.error is not None
    assert event.error.endswith(" at \\udcff the end\0")


def test_an_event_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1)
    with pytest.raises(ValueError, match="fewer than"):
        journal.append(result(1), TrialSuggested(trial=0, origin="x" * 2_000_000, values={}, config={}, time=1))
    assert list(read(tmp_path)) == []


def test_failed_needs_an_error() -> None:
    with pytest.raises(ValueError, match="why"):
        TrialEnded(trial=0, status=TrialStatus.FAILED, time=time.time())
