from __future__ import annotations

import io

from rich.console import Console

from search.views.shipped import print_shipped
from spaces import study_names


def test_each_study_has_a_line_and_a_time() -> None:
    out = io.StringIO()
    print_shipped(Console(file=out, width=120))
    text = out.getvalue()
    assert all(name in text for name in study_names())
    assert "ResNet-110 reach only 77 % on CIFAR-10?" in text
    assert "your images decide" in text
    assert "--dry-run" in text
