"""docs/optimizers.md lists every optimizer and schedule, and no key that it does not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from trainables.config import Optimizer, Schedule

PAGE = (Path(__file__).parents[3] / "docs" / "optimizers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", [*get_args(get_args(Optimizer)[0]), *get_args(get_args(Schedule)[0])])
def test_every_kind_is_listed(part: Any) -> None:
    fields = part.model_fields
    (row,) = re.findall(rf"^\| `{fields['kind'].default}` \|.*", PAGE, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert set(re.findall(r"`(\w+)`", cells[2])) <= fields.keys()
    if "lr" in fields:
        assert int(cells[3]) == part.state_slots
