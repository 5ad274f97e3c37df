"""What a reader of README.md, CONTRIBUTING.md and docs/ can type: the commands, and blocks of YAML and Python."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

__all__ = ["PLACEHOLDERS", "Block", "Command", "blocks", "commands", "filled", "modules", "pages"]

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from search.__main__ import VERBS  # noqa: E402 (found through the path above)

FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?P<text> {4}.*\n(?:(?: {4}.*)?\n)*)")
INLINE = re.compile(r"`((?:python -m|resnet-search|make|mlflow|sbatch) [^`]+)`")
# A block is of commands if its first line begins with one of these, or with a prompt.
PROGRAMS = (
    ".", "aws", "cd", "deploy/mlflow-server.sh", "export", "make", "mlflow", "pip", "python", "ray", "resnet-search",
    "sbatch", "ssh",
)  # fmt: skip
# What a reader replaces, and by what it is replaced here; docs/run_snippets.py makes these files and studies.
PLACEHOLDERS = {
    r"\[(--[^\]]+)\]": r"\1",  # an option that may be left out
    r"runs/(STUDY|<study>)/checkpoints/\S+": "model.pt",
    r"<study>|\bSTUDY\b|\bOLD\b": "digits_resnet8",
    r"\bPATH/TO/IMAGES\b|\bPATH\b": "photos",
    r"\bSRC\b": "imagefolder:photos",
    r"\bCHECKPOINT\b|\bMODEL\b": "model.pt",
    r"\bIMAGES?\.\.\.": "photos/test/3",
    r"\bFORMAT\b": "pt2",
    r"\bDIR\b": "exported",
    r"\bCONFIG\b": "config.yaml",
    r"(?<= )N\b": "0",
    r" \.\.\. ": " ",
}


class Block(NamedTuple):
    """A piece of a page that is set off; `language` is what a fence says, empty for an indented one."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A command as it is written, without prompt and comment, its lines joined."""

    page: str
    line: int
    text: str

    @property
    def verb(self) -> tuple[str, list[str]] | None:
        """Which of our verbs it runs, as a module, and the words behind it; None if it runs something else."""
        match shlex.split(filled(self.text)):
            case ["python", "-m", str(module), *words] if module.startswith(("search.", "trainables.")):
                return module, words
            case ["resnet-search", str(name), *words] if not name.startswith("-"):
                return {name: module for name, (module, _) in VERBS.items()}.get(name, name), words
        return None


def modules() -> dict[str, str]:
    """The Python that is shown with a file's name as its first line, `# my_net.py`, by the module's name."""
    named = (re.match(r"# (\w+)\.py\n", block.text) for block in blocks() if block.language == "python")
    return {match[1]: match.string for match in named if match}


def filled(text: str) -> str:
    """A command with something in the place of each placeholder."""
    for placeholder, value in PLACEHOLDERS.items():
        text = re.sub(placeholder, value, text)
    return text


def pages() -> list[Path]:
    """README.md, CONTRIBUTING.md and every page of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks() -> Iterator[Block]:
    """Every block, page by page."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in [*FENCED.finditer(text), *INDENTED.finditer(FENCED.sub(_blank, text))]:
            line = text.count("\n", 0, match.start("text")) + 1
            found = match.groupdict()
            if found["text"].strip():
                indent = found.get("indent")  # a fence's own; what its lines have beyond it means something in YAML
                body = dedent(found["text"]) if indent is None else re.sub(f"(?m)^{indent}", "", found["text"])
                body = body.strip("\n")
                is_python = body.startswith(("from ", "import "))
                yield Block(page.name, line, found.get("language") or ("python" if is_python else ""), body)


def commands() -> Iterator[Command]:
    """Every command, those in running text included."""
    for block in blocks():
        if block.language in ("", "bash", "console"):
            yield from _typed(block)
    for page in pages():
        text = page.read_text(encoding="utf-8")
        prose = INDENTED.sub(_blank, FENCED.sub(_blank, text))
        for match in INLINE.finditer(prose):
            yield Command(page.name, prose.count("\n", 0, match.start()) + 1, " ".join(match[1].split()))


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _typed(block: Block) -> Iterator[Command]:
    lines = block.text.splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    if not prompted and not block.text.startswith(tuple(f"{program} " for program in PROGRAMS)):
        return
    for number, line in enumerate(lines):
        if (prompted and not line.startswith("$ ")) or line.startswith(" ") or not line:
            continue
        text = line.removeprefix("$ ")
        for more in lines[number + 1 :]:
            if not more.startswith(" "):
                break
            text = f"{text.removesuffix(chr(92)).rstrip()} {more.strip()}"
        yield Command(block.page, block.line + number, re.sub(r"\s+#.*", "", text))
