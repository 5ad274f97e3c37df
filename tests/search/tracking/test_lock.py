from __future__ import annotations

from pathlib import Path

from search.tracking.lock import WriterLock


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path / "journal"), WriterLock(tmp_path / "journal")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    assert not first.acquire()
    second.release()


def test_where_no_lock_can_be_made_nobody_is_kept_waiting(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    first, second = WriterLock(tmp_path / "journal"), WriterLock(tmp_path / "journal")
    assert first.acquire()
    assert second.acquire()
    first.release()
