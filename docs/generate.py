"""Writes what of the documentation is derived from the code: `architecture.svg` and three pages.

`make docs` runs it; a test fails when what is committed differs from what it would write.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from reference_page import reference  # noqa: E402 (found through the path above)
from studies_page import studies_page  # noqa: E402 (found through the path above)

from tests.test_imports import ORDER, edges  # noqa: E402 (found through the path above)

ROW, LEFT, JOB, STEP, TOP = 24, 20, 150, 24, 66  # pixels
COLUMNS = 880  # where the triangle of imports begins


def jobs(top: str) -> dict[str, str]:
    """The packages and modules of a top package, the first that may be imported by all others last: name, and job."""
    found = {}
    for name in reversed(ORDER[top]):
        path = ROOT / top / name
        source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
        found[name] = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0].replace("`", "")
    return found


def imported(top: str) -> dict[str, set[str]]:
    """What each package of a top package imports of the others."""
    found: dict[str, set[str]] = {name: set() for name in ORDER[top]}
    for module, _, target in edges():
        source, goal = module.split("."), target.split(".")
        if source[0] == goal[0] == top and len(goal) > 1 and len(source) > 1 and source[1] in found:
            found[source[1]].add(goal[1])
    return found


def architecture() -> str:
    """The picture: a row for each package, its job, and a dot for each package below it that it imports."""
    parts: list[str] = []
    y = TOP
    for top in ORDER:
        rows, imports = jobs(top), imported(top)
        names = list(rows)
        parts.append(f'<text x="{LEFT}" y="{y}" class="top">{top}/</text>')
        parts += [
            f'<text transform="translate({COLUMNS + STEP * i + 4},{y + 2}) rotate(-50)" class="name">{name}</text>'
            for i, name in enumerate(names)
        ]
        y += 16
        for i, (name, job) in enumerate(rows.items()):
            shade = "#f6f8fa" if i % 2 else "#ffffff"
            width = COLUMNS + STEP * len(names)
            parts.append(f'<rect x="{LEFT - 6}" y="{y}" width="{width}" height="{ROW}" fill="{shade}"/>')
            parts.append(f'<text x="{LEFT}" y="{y + 16}" class="name">{name}</text>')
            parts.append(f'<text x="{LEFT + JOB}" y="{y + 16}" class="job">{escape(job)}</text>')
            for j, other in enumerate(names):
                x, center = COLUMNS + STEP * j, y + ROW / 2
                if j == i:
                    parts.append(f'<rect x="{x - 4}" y="{center - 4}" width="8" height="8" fill="#d0d7de"/>')
                elif other in imports[name]:
                    parts.append(f'<circle cx="{x}" cy="{center}" r="5" fill="#0969da"/>')
            y += ROW
        y += 110
    height, width = y - 90, COLUMNS + STEP * max(map(len, ORDER.values())) + 60
    style = (
        "text{font-family:system-ui,sans-serif;font-size:13px;fill:#1f2328}.top{font-size:18px;font-weight:600}"
        ".name{font-family:ui-monospace,monospace;font-size:12px}.job{fill:#59636e}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<style>{style}</style>"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _markdown(docstring: str) -> Iterator[str]:
    """A Google-style docstring in Markdown: sections in bold, their entries as a list, examples as code."""
    section, example = "", False
    for line in inspect.cleandoc(docstring).splitlines():
        if match := re.fullmatch(r"(Args|Raises|Returns|Attributes|Example):", line):
            section = match[1]
            yield from ("", f"**{section}**", "")
        elif section == "Example" and line.strip():
            yield from () if example else ("```python",)
            example = True
            yield line.strip().removeprefix(">>> ")
        elif section and (entry := re.fullmatch(r" {4}(\*{0,2}[\w, ]+): (.*)", line)):
            yield f"- `{entry[1]}`: {entry[2]}"
        else:
            yield line.strip() if not section else f"  {line.strip()}" if line.strip() else ""
    if example:
        yield "```"


def _signature(name: str, thing: Any) -> str:
    parameters = inspect.signature(thing).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name != "self"]
    return name + str(inspect.Signature(bare))


def api() -> str:
    """The page of the Python API, from the docstrings of `search.__all__`."""
    import search

    example = (ROOT / "docs" / "api_example.py").read_text(encoding="utf-8")
    lines = [
        "# Python API",
        "",
        "Made from the docstrings by `make docs`.",
        "",
        "```python",
        example.strip(),
        "```",
        "",
    ]
    for name in sorted(search.__all__, key=str.lower):
        thing = getattr(search, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue
        title = _signature(name, thing) if inspect.isfunction(thing) else name
        lines += [f"## `{title}`", "", *_markdown(thing.__doc__ or ""), ""]
        if inspect.isclass(thing) and thing.__module__.startswith("search."):
            for method, member in vars(thing).items():
                if not method.startswith("_") and inspect.isfunction(member) and member.__doc__:
                    lines += [f"### `{_signature(f'{name}.{method}', member)}`", "", *_markdown(member.__doc__), ""]
    return "\n".join(lines).rstrip() + "\n"


PAGES = {"architecture.svg": architecture, "api.md": api, "reference.md": reference, "studies.md": studies_page}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (ROOT / "docs" / page).write_text(write(), encoding="utf-8")
