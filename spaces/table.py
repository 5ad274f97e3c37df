"""Every study that ships as a page of tables: `python -m spaces.table` writes docs/studies.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spaces.domains import Choice, Domain, Fixed, Int, Space, option_text
from spaces.grammar import parse_space
from spaces.space import path_of
from spaces.studies import read_study, study_names
from trainables.config import flatten

__all__ = ["domain_text", "space_rows", "studies_page"]

PAGE = Path("docs/studies.md")

INTRODUCTION = """\
# The studies that ship

Generated from `spaces/*.yaml` by `python -m spaces.table`; edit those, then run it again.

`python -m search.run STUDY` runs one, `python -m search.run path/to/mine.yaml` one of your own in the same grammar.
Recipes are tried first and run to the end; the search then draws from the space. What neither a recipe nor the space
names stays at the trial's defaults. `--set a.b=value` fixes a path: the value wins over defaults, space and recipes
wherever the key exists (a momentum reaches SGD, not Adam), and the path is searched no more. What is searched *with* a
path, such as the freeze depth with `model.pretrained`, is left out while that path is empty.

## What a search may take

| key of a study | option | what |
| --- | --- | --- |
| `budget.trials` | `--trials N` | how many trials, recipes included |
| `budget.epochs` | `--epochs N` | epochs of a whole trial, and so the schedule's length |
| `budget.hours` | `--hours H` | the search ends after so long |
| `budget.max_cost` | `--max-cost X` | the search ends when its nodes have cost so much |
| `resources.prices` | `--price X`, `--price TYPE=X` | what a node costs an hour, in any currency |
| `resources.concurrent` | `--concurrent N` | most trials at once; as many as fit if left out |
| `resources.cpus_per_trial` | `--cpus-per-trial X` | CPUs of one trial |
| `resources.gpus_per_trial` | `--gpus-per-trial X` | GPUs of one trial, fractions too; `auto` is measured |
| `resources.fuse` | `--set resources.fuse=true` | the trials of a GPU [take their steps together](performance.md) |

None of these but the epochs belongs to what a study is: a search that goes on may have others. Trials, hours and money
may grow then, not shrink; hours and money count for all its sessions together. When they are used up, nothing is begun
any more and each trial that runs is stopped at the end of its epoch (stop reason `hours` or `max_cost`); best config,
tables and MLflow are written as at any other end.

    budget: {trials: 64, epochs: 81, max_cost: 20}
    resources: {prices: {head: 0.096, gpu_spot: 0.40, gpu_on_demand: 1.006}}

Prices, which `max_cost` needs, are one number for each node or one for each node type; types are named as in the
cluster's file, under `available_node_types`. A machine without a cluster is one node: `--price 0.4` is enough.
What is counted, and what is not: [cluster.md](cluster.md#what-a-search-may-cost).
"""


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def domain_text(domain: Domain | Fixed) -> str:
    """A domain in words: `0.01 to 1, log`, `32, 64, 128`."""
    if isinstance(domain, Fixed):
        values = domain.value if isinstance(domain.value, tuple) else (domain.value,)
        return f"{', '.join(option_text(value) for value in values)} (fixed)"
    if isinstance(domain, Choice):
        return ", ".join(option_text(option) for option in domain.options)
    text = f"{_number(domain.low)} to {_number(domain.high)}"
    if domain.log:
        text += ", log"
    if domain.step is not None and not (isinstance(domain, Int) and domain.step == 1):
        text += f", step {_number(domain.step)}"
    return text


def space_rows(space: Space) -> list[tuple[str, str, str]]:
    """A row for everything searched or fixed: config path, values, and on what it hangs (empty: nothing)."""
    rows: list[tuple[str, str, str]] = []

    def visit(part: Space, when: tuple[str, ...]) -> None:
        for entry in part.entries:
            needs = (*when, f"with {entry.requires}") if entry.requires else when
            rows.append((path_of(entry.path), domain_text(entry.domain), ", ".join(needs)))
            if isinstance(entry.domain, Choice):
                for option in entry.domain.options:
                    visit(entry.domain.branch(option), (*needs, f"{entry.path} is {option_text(option)}"))

    visit(space, ())
    return rows


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = list(head)
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in row)} |"


def _words(section: Mapping[str, Any]) -> str:
    rest = [f"{key.replace('_', ' ')} {value}" for key, value in section.items() if key != "kind"]
    return ", ".join(filter(None, [str(section.get("kind", "")), *rest]))


def _code(rows: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    for path, values, when in rows:
        yield f"`{path}`", values, when


def _section(name: str, study: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield study["description"]
    yield ""
    yield from _table(
        ("", ""),
        [
            ("trial", ", ".join(f"`{key}` {option_text(value)}" for key, value in flatten(study["trial"]).items())),
            ("objective", f"{study['objective']['mode']} {study['objective']['metric']}"),
            ("budget", _words(study["budget"])),
            ("searcher", _words(study["searcher"])),
            ("scheduler", _words(study["scheduler"])),
        ],
    )
    yield ""
    yield from _table(("searched", "values", "when"), _code(space_rows(parse_space(study["space"]))))
    yield ""
    recipes = study["recipes"].items()
    yield from _table(("recipe", "what", "source"), [(f"`{key}`", r["description"], r["source"]) for key, r in recipes])
    yield ""


def studies_page() -> str:
    """The whole page, in Markdown."""
    lines = [INTRODUCTION, *(line for name in study_names() for line in _section(name, read_study(name)))]
    return "\n".join(lines).rstrip() + "\n"


def _main(path: Path) -> int:
    if not path.parent.is_dir():
        sys.stderr.write(f"error: {path}: its folder must exist; run this in the root of a checkout\n")
        return 2
    path.write_text(studies_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE))
