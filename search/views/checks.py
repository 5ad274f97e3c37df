"""What the checks of a study say: as lines, as the last lines of a search, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from search.analysis.checks import check_all
from search.journal.result import StudyResult
from search.views.console import say
from search.views.next_commands import plugins, program, resume, shown, verb
from trainables.check import INDENT, Check, alarms, line_of
from trainables.config.plugins import as_recorded

__all__ = ["checked", "checks_json", "command_and_words", "print_alarms", "print_checks"]

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "unknown": "dim"}
MOST_ALARMS = 3


@as_recorded()
def checked(result: StudyResult) -> list[Check]:
    """Every check of the study, its next steps as they can be typed from here."""
    folder = result.folder or Path("runs", result.spec.study)
    python = program("python")
    typed = {
        "{search}": resume(folder), "{study}": shown(folder) if "/" in shown(folder) else f"./{shown(folder)}",
        "{file}": shown(folder / "study.yaml"), "{best_config}": shown(folder / "best_config.yaml"),
        "{plugins}": plugins(), "python -m": f"{python} -m",
    }  # fmt: skip
    return [
        check if check.next_step is None else replace(check, next_step=_with(check.next_step, typed))
        for check in check_all(result)
    ]


def _with(text: str, typed: dict[str, str]) -> str:
    for placeholder, command in reversed(typed.items()):  # "python -m" first: what is filled in has its own
        text = text.replace(placeholder, command)
    return text


def command_and_words(step: str) -> tuple[str, str]:
    """What of a next step is typed, and what is said beside it; either may be empty."""
    command, _, words = step.partition("   # ")
    return (command, words) if command.startswith(f"{program('python')} -m ") else ("", step)


def print_checks(checks: Iterable[Check], console: Console) -> None:
    """Each check: its status, its evidence, and what to do next, which is never wrapped."""
    for check in checks:
        _print_line(check, console)
        if check.next_step is not None:
            say(console, f"{'':<{INDENT}}next: {check.next_step}")


def print_alarms(result: StudyResult, console: Console, command: bool = True) -> None:
    """What is not as it should be, problems first, in a few lines; nothing where all is well.

    Args:
        result: the study so far.
        console: where to print.
        command: whether the last line says how to see all checks from here.
    """
    found = alarms(checked(result))
    if found:
        console.print()
    for check in found[:MOST_ALARMS]:
        _print_line(check, console)
    if found and command:
        folder = result.folder or Path("runs", result.spec.study)
        left = f"{len(found) - MOST_ALARMS} more, and " if len(found) > MOST_ALARMS else ""
        say(console, f"{'':<{INDENT}}{verb('check', folder)}   # {left}what to do next")


def checks_json(checks: Sequence[Check]) -> str:
    """The checks as a JSON list of objects with `name`, `status`, `evidence` and `next_step`."""
    return json.dumps([asdict(check) for check in checks], indent=2)


def _print_line(check: Check, console: Console) -> None:
    text = line_of(check, console.width if console.is_terminal else None)
    line = Text.assemble((f"{check.status:<{INDENT}}", STYLES[check.status]), text)
    console.print(line, soft_wrap=True)
