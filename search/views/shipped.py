"""The studies that ship: a line for each, and about how long it takes on this machine."""

from __future__ import annotations

import re

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.planning.guess import gflops_here, guessed_seconds
from search.study.parse import load_study
from search.views.console import say
from search.views.next_commands import program
from search.views.plan import about
from spaces import study_names

__all__ = ["print_shipped"]

_SENTENCE = re.compile(r"(?<=[.?]) (?=[A-Z])")


def print_shipped(console: Console) -> None:
    """Print the name of each study, a guess of its time with its refit, the first sentence of what it is for."""
    with console.status("timing this machine"):
        gflops = gflops_here()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("study", no_wrap=True)
    table.add_column("estimated time", no_wrap=True)
    table.add_column("what it is for")
    for name in study_names():
        spec = load_study(name)
        seconds = guessed_seconds(spec, gflops)
        time = "your images decide" if seconds is None else about(seconds)
        table.add_row(Text(name), time, Text(_SENTENCE.split(spec.description)[0]))
    console.print(table)
    for command, purpose in (
        ("run STUDY --dry-run", "measures the time instead of guessing it"),
        ("run STUDY --smoke", "the same network in minutes, on two cores"),
        ("init IMAGES", "writes a study for images of your own"),
    ):
        say(console, f"{program('python')} -m search.{command:<20}   # {purpose}")
