"""Files that are written whole have the mode that the user's umask says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from trainables.files import write_text


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask_is_respected(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a" / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "file").stat().st_mode) == mode
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
