"""A search that is stored in a storage, too: by a real search, killed, moved and continued."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.answers import explain_study, refit_study
from search.api import run_study
from search.journal.log import Journal, segments
from search.journal.records import TrialRecord, TrialStatus
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.storage.checkpoints import Retention, checkpoint_name, leg_folder
from search.storage.lease import Lease
from search.storage.location import fetch_study, has_study, study_storage
from search.storage.mirror import Mirror
from search.storage.remote import local_storage, open_storage
from search.tune.adapters import TuneContext
from tests.search.killed_search import (
    begin,
    command,
    environment,
    journal_lines,
    result,
    run,
    synthetic_study,
    uninterrupted,
    written,
)
from tests.search.s3_server import BUCKET, s3_server
from tests.search.sample_study import sample_events, sample_spec
from tests.search.test_resume import assert_same, assert_tracked
from trainables.config import ConfigError
from trainables.files import write_text

METRICS = {"val_accuracy": 0.5, "train_loss": 1.0}


def started(folder: Path, events: int, session: int = 1) -> None:
    """A study's folder with this much of a journal."""
    spec = sample_spec()
    write_text(folder / "study.yaml", spec.dump())
    journal = Journal(folder / "journal", session)
    journal.append(*sample_events(spec)[:events])
    journal.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in segments(folder / "journal")}


def test_what_the_storage_has_more_of_is_fetched(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    fetch_study(local_storage(there), here)
    assert not here.exists()
    started(there, 5)
    fetch_study(local_storage(there), here)
    assert contents(here) == contents(there)
    assert (here / "study.yaml").read_bytes() == (there / "study.yaml").read_bytes()
    started(there, 3, session=2)
    fetch_study(local_storage(there), here)
    assert contents(here) == contents(there)
    started(here, 3, session=3)  # and was not copied anymore
    before = contents(here)
    (here / "study.yaml").unlink()  # as if the fetch had been cut short
    fetch_study(local_storage(there), here)
    assert contents(here) == before
    assert (here / "study.yaml").read_bytes() == (there / "study.yaml").read_bytes()


@pytest.mark.parametrize("compare", [refit_study, explain_study])
def test_what_follows_a_search_begins_with_what_another_machine_has_added(
    tmp_path: Path, compare: Callable[..., StudyResult]
) -> None:
    here, there = tmp_path / "runs" / "sample", tmp_path / "storage" / "sample"
    started(there, 5)
    shutil.copytree(there, here)
    started(there, 3, session=2)
    (here / "storage").write_text(local_storage(there.parent).uri)
    other = {"against": "he2016"} if compare is refit_study else {"baseline": "he2016"}
    with pytest.raises(ConfigError, match="must be a recipe of sample"):  # found before anything starts
        compare("sample", out=tmp_path / "runs", **other)
    assert contents(here) == contents(there)


def test_two_searches_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    started(there, 5)
    started(here, 5)
    started(there, 3, session=2)
    started(here, 4, session=2)
    started(there, 3, session=3)
    before = contents(here)
    with pytest.raises(ConfigError, match=r"holds results that .* lacks"):
        fetch_study(local_storage(there), here)
    assert contents(here) == before


def test_a_search_that_was_started_without_a_storage_takes_its_checkpoints_along(
    tmp_path: Path, session: Callable[[Path, Path | None], StudyResult]
) -> None:
    out, storage = tmp_path / "out", tmp_path / "storage"
    session(out, None)
    before = out / "sample" / "checkpoints" / "trial-0000" / "leg-01" / "epoch-0003.pt"
    assert before.exists()
    assert session(out, storage).trouble is None
    assert (storage / "sample" / before.relative_to(out / "sample")).read_bytes() == b"x"
    assert contents(storage / "sample") == contents(out / "sample")


def test_what_a_stopped_trial_has_left_is_swept_up(tmp_path: Path) -> None:
    study = local_storage(tmp_path)
    statuses = (TrialStatus.STOPPED, TrialStatus.COMPLETED, TrialStatus.DIVERGED, TrialStatus.PAUSED)
    for trial in range(len(statuses)):
        study.write(f"{leg_folder(trial, 1)}/{checkpoint_name(1)}", b"x")
    state = StudyState({n: TrialRecord(n, "random", {}, {}, status) for n, status in enumerate(statuses)})
    Retention(study, state, "val_accuracy", "max").sweep()
    assert [file.name[:10] for file in study.list("checkpoints")] == ["trial-0001", "trial-0003"]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path | None], StudyResult]:
    """A session of one trial of three that completes, without Ray; the others wait."""

    def run_trials(context: TuneContext) -> None:
        driver = context.driver
        for _ in range(3):
            driver.next_leg()
        if not driver.records[0].history:
            for epoch in (1, 2, 3):
                name = f"{leg_folder(0, 1)}/{checkpoint_name(epoch)}"
                context.storage.write(name, b"x")
                metrics = METRICS | {"val_accuracy": epoch / 10}
                driver.on_result(0, epoch, metrics, epoch == 3, "epochs", context.storage.where(name))

    monkeypatch.setattr("search.tune.session.connect", lambda: None)
    monkeypatch.setattr("search.tune.session.run_trials", run_trials)

    def run(out: Path, storage: Path | None) -> StudyResult:
        kept = None if storage is None else str(storage)
        return run_study(sample_spec(trials=3), out=out, storage=kept, progress=False)

    return run


def test_a_session_leaves_all_of_it_in_the_storage(
    tmp_path: Path, session: Callable[[Path, Path | None], StudyResult], caplog: pytest.LogCaptureFixture
) -> None:
    out, storage = tmp_path / "out", tmp_path / "storage"
    assert study_storage(None, out / "sample", smoke=False, fresh=False) is None
    assert not has_study(local_storage(storage / "sample"))
    session(out, storage)
    assert has_study(local_storage(storage / "sample"))
    assert contents(storage / "sample") == contents(out / "sample")
    for name in ("study.yaml", "trials.parquet", "optuna_journal.log", "best_config.yaml", "report.html"):
        assert (storage / "sample" / name).read_bytes() == (out / "sample" / name).read_bytes()
    # Of the trial's checkpoints the last, which is the best, is retained, and is on this machine as well.
    retained = [path.name for path in (storage / "sample" / "checkpoints").rglob("*.pt")]
    assert retained == ["epoch-0003.pt"]
    here = out / "sample" / "checkpoints" / "trial-0000" / "leg-01" / "epoch-0003.pt"
    assert here.read_bytes() == b"x"
    assert not (storage / "sample" / "journal" / "lock.json").exists()
    assert not [record for record in caplog.records if record.name == "search"]
    check_that_it_remembers(out / "sample", storage, tmp_path)
    # On another machine it continues from there.
    other = tmp_path / "other"
    assert session(other, storage).trials[0].status is TrialStatus.COMPLETED
    assert len(segments(storage / "sample" / "journal")) == 2
    with pytest.raises(ConfigError, match="from another machine"):  # the first machine's folder is behind
        Mirror(local_storage(storage / "sample"), out / "sample", print).__enter__()
    assert not (storage / "sample" / "journal" / "lock.json").exists()


def check_that_it_remembers(folder: Path, storage: Path, tmp_path: Path) -> None:
    assert study_storage(None, folder, smoke=False, fresh=False) == local_storage(storage)
    assert study_storage(None, folder, smoke=False, fresh=True) is None
    assert study_storage(str(storage), folder, smoke=False, fresh=False) == local_storage(storage)
    other = str(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="has been stored so far"):
        study_storage(other, folder, smoke=False, fresh=False)
    assert study_storage(other, folder, smoke=True, fresh=True) == local_storage(tmp_path / "elsewhere" / "smoke")
    (tmp_path / "link").symlink_to(folder.parent)
    with pytest.raises(ConfigError, match="another place than --out"):
        study_storage(str(folder.parent), tmp_path / "link" / "new", smoke=False, fresh=False)


def test_an_outage_at_the_end_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    warnings: list[str] = []
    started(tmp_path / "sample", 5)
    (tmp_path / "storage").mkdir()
    copied: list[object] = []
    journal = Journal(tmp_path / "sample" / "journal", 2)
    with Mirror(local_storage(tmp_path / "storage" / "sample"), tmp_path / "sample", warnings.append) as mirror:
        mirror.follow(copied.append, lambda event: None)
        assert mirror.flush()
        time.sleep(0.5)  # it has nothing to do for ten seconds now, and does not see the moment between the two renames
        journal_there = tmp_path / "storage" / "sample" / "journal"
        (tmp_path / "file").write_text("not a folder")  # nothing can be written below it
        journal_there.rename(tmp_path / "away")
        (tmp_path / "file").rename(journal_there)
        event = sample_events(sample_spec())[0]
        journal.append(event)
        mirror(event)
        assert not mirror.flush()
        assert "is away" in warnings[0]
        assert copied == []  # MLflow never knows more than the storage
        journal_there.unlink()
        (tmp_path / "away").rename(journal_there)
        assert mirror.flush()  # a new attempt, not the last one's answer
        assert copied == [event]
        assert "is back" in warnings[1]
    assert contents(tmp_path / "storage" / "sample") == contents(tmp_path / "sample")


def test_a_driver_that_was_taken_over_copies_nothing_more(tmp_path: Path) -> None:
    started(tmp_path / "sample", 5)
    study = local_storage(tmp_path / "storage" / "sample")
    journal = Journal(tmp_path / "sample" / "journal", 2)
    with Mirror(study, tmp_path / "sample", lambda line: None) as mirror:
        before = contents(Path(study.path))
        study.write("journal/lock.json", b'{"id": "of another"}')
        event = sample_events(sample_spec())[0]
        journal.append(event)
        mirror(event)
        assert not mirror.flush()
        assert mirror.trouble is not None
        assert "taken over" in mirror.trouble
    assert contents(Path(study.path)) == before
    assert study.read("journal/lock.json") == b'{"id": "of another"}'


TAKE_LEASE = """
import sys
from pathlib import Path
from search.storage.lease import Lease
from search.storage.remote import open_storage

Lease(open_storage(sys.argv[1]), Path(sys.argv[2]), print).acquire()
"""


def test_a_storage_that_is_held_by_a_living_process_is_waited_for_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.storage.lease.LOOK", 0.05)
    monkeypatch.setattr("search.storage.lease.SETTLED", 0.05)
    study = local_storage(tmp_path / "storage")
    first = Lease(study, tmp_path / "first", print)
    first.acquire()
    second = subprocess.Popen(
        [sys.executable, "-c", TAKE_LEASE, str(study.path), str(tmp_path / "second")], stderr=subprocess.PIPE, text=True
    )
    while second.poll() is None:
        time.sleep(0.1)
        assert first.beat()
    assert "is held by a running search" in second.communicate()[1]
    assert second.returncode != 0
    first.release()
    assert study.list() == []


def test_a_lease_without_heartbeats_expires_and_its_holder_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK", 0.05), ("SETTLED", 0.05), ("EXPIRES", 0.2)):
        monkeypatch.setattr(f"search.storage.lease.{name}", seconds)
    warnings: list[str] = []
    study = local_storage(tmp_path / "storage")
    first, second = (Lease(study, tmp_path / name, warnings.append) for name in ("first", "second"))
    first.acquire()
    assert warnings == []
    second.acquire()
    assert "waiting" in warnings[0]
    assert not first.beat()
    first.release()  # no longer its own
    assert second.beat()
    Lease(study, tmp_path / "second", warnings.append).acquire()  # the same folder, whose driver was killed
    assert len(warnings) == 1


@pytest.mark.slow
def test_killed_and_moved_from_machine_to_machine_it_ends_as_if_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = written(synthetic_study("asha_promote"), tmp_path)
    uninterrupted(study, tmp_path / "whole")
    out = tmp_path / "out"
    with s3_server(monkeypatch):
        options = ("--concurrent", "1", "--storage", f"s3://{BUCKET}/team")
        for lines in (5, 8, 8):
            # A study that is there knows its storage.
            process = begin(study, out, lines, *(options[:2] if (out / "killed").exists() else options))
            assert process.poll() is None, "the search was over too soon to be killed so often"
            process.kill()
            process.communicate()
            if lines == 5:
                shutil.rmtree(out)  # the machine is lost: another one continues with what the storage has
        text = run(study, out, *options)
        assert f"s3://{BUCKET}/team/killed" in text
        assert_same(out, tmp_path / "whole")
        assert_tracked(out)
        storage = open_storage(f"s3://{BUCKET}/team/killed")
        for path in [*segments(out / "killed" / "journal"), out / "killed" / "best_config.yaml"]:
            assert storage.read(str(path.relative_to(out / "killed"))) == path.read_bytes()
        best = result(out).best()
        assert best is not None
        assert best.checkpoint is not None
        assert storage.exists(storage.name_of(best.checkpoint))


@pytest.mark.slow
def test_a_storage_that_goes_away_stops_no_search_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = synthetic_study("asha", epochs=99)
    tree["trial"]["model"]["seconds_per_epoch"] = 1.0
    study, printed = written(tree, tmp_path), tmp_path / "printed"
    with s3_server(monkeypatch) as server, printed.open("w") as file:
        process = subprocess.Popen(
            command(study, tmp_path, "--storage", f"s3://{BUCKET}/team"), env=environment(), stdout=file, stderr=file
        )
        while process.poll() is None and journal_lines(tmp_path / "killed") < 4:
            time.sleep(0.05)
        server.stop()
        while process.poll() is None and "is away" not in printed.read_text():
            time.sleep(0.1)
        lines = journal_lines(tmp_path / "killed")
        while process.poll() is None and journal_lines(tmp_path / "killed") < lines + 3:
            time.sleep(0.1)
        assert process.poll() is None, printed.read_text()
        server.start()
        while process.poll() is None and "is back" not in printed.read_text():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=200) == 130, printed.read_text()
        assert "is back" in printed.read_text()
        storage = open_storage(f"s3://{BUCKET}/team/killed")
        for path in segments(tmp_path / "killed" / "journal"):
            assert storage.read(f"journal/{path.name}") == path.read_bytes()


@pytest.mark.slow
def test_a_storage_that_cannot_be_had_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = written(synthetic_study("asha"), tmp_path)
    with s3_server(monkeypatch):
        for uri in ("s3://none/x", "s3://a:b@searches/x", "foo://x", str(tmp_path / "out")):
            done = subprocess.run(
                command(study, tmp_path / "out", "--storage", uri), env=environment(), capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert done.returncode == 2, done.stderr
            assert "--storage" in done.stderr
            assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "killed").exists()
