"""The page with every study that ships, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spaces.domains import option_text
from spaces.grammar import parse_space
from spaces.space import space_rows
from spaces.studies import read_study, study_names
from trainables.config import flatten

__all__ = ["studies_page"]

INTRODUCTION = """\
# The studies that ship

Made from `spaces/*.yaml` by `make docs`; edit those, then run it again.

`python -m search.run STUDY` runs one, `python -m search.run path/to/mine.yaml` one of your own in the same grammar.
Recipes are tried first and run to the end; then the searcher draws from the space. What neither a recipe nor the space
names stays at the trial's defaults. `--set a.b=value` fixes a path: the value wins over defaults, space and recipes
wherever the key exists (a momentum reaches SGD, not Adam), and the path is no longer searched. A parameter that
requires a path, such as the freeze depth with `model.pretrained`, is left out while that path is empty; where the path
itself is searched, it is searched with those options that are not empty. With pretrained weights every study tries two
more recipes first, `fine_tune` and `linear_probe`: [transfer.md](transfer.md).

The type of its key decides how a value is read. With `--set` a path or a name is taken as a whole, with blanks, ` #`,
`: ` and brackets; quotes around it are removed. Everything else is YAML: `[0.3, 0.6]` is a list, `on` and `yes` are
true, `064` is 64, and a comment is refused. `None`, `null`, `false` and an empty value are read as the key's own word
for none: `none` (`model.pretrained`, `augment.policy`, `scheduler.kind`) or null (`regularization.patience`,
`budget.hours`). Other tools' names for a key, a range or a choice are refused, with the name that is used here.

No config is trained twice with the same seed. A finite space (no range in it is continuous) is tried combination by
combination, and the search ends when none is left, as a grid does; the plan shows how many there are. A recipe counts
as its combination. Where two recipes are the same, or a searcher of your own repeats itself, the trial gets the next
seed.

A recipe that was published for runs more than four times as long is tried in a short form, and a line says so when the
search starts: what is made for 160 epochs is no baseline for 12.

A study of a deep network can be searched with a small one on fewer images, `proxy: {depth: 20, train_samples: 10000}`:
[guide.md](guide.md#a-deep-network-searched-with-a-small-one).

How long a search may run and what it may use: [budget.md](budget.md). A model or images of your own:
[plugins.md](plugins.md).
"""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = list(head)
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in row)} |"


def _words(section: Mapping[str, Any]) -> str:
    rest = [f"{key.replace('_', ' ')} {value}" for key, value in section.items() if key != "kind"]
    return ", ".join(filter(None, [str(section.get("kind", "")), *rest]))


def _tried(recipe: Mapping[str, Any]) -> str:
    if "short" not in recipe:
        return str(recipe["description"])
    short = ", ".join(f"`{key}` {option_text(value)}" for key, value in flatten(recipe["short"]).items())
    return f"{recipe['description']}. Made for {recipe['epochs']} epochs; below a quarter of them: {short}"


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
            ("refit", _words(study.get("refit") or {"kind": "none"})),
        ],
    )
    yield ""
    yield from _table(("searched", "values", "when"), _code(space_rows(parse_space(study["space"]))))
    yield ""
    recipes = study["recipes"].items()
    yield from _table(("recipe", "what", "source"), [(f"`{key}`", _tried(r), r["source"]) for key, r in recipes])
    yield ""


def studies_page() -> str:
    """The whole page, in Markdown."""
    lines = [INTRODUCTION, *(line for name in study_names() for line in _section(name, read_study(name)))]
    return "\n".join(lines).rstrip() + "\n"
