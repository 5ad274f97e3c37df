"""Imports go one way: trainables.config <- spaces <- search -> trainables, and inside both only downwards.

The sources are parsed, so that imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainables", "spaces", "search")
# Inside a top package each of these may import itself and those before it; what is not listed may import them all.
ORDER = {
    "search": (
        "study", "journal", "algorithms", "storage", "tracking", "planning", "analysis", "views", "engine", "tune",
        "cluster", "testing",
    ),
    "trainables": (
        "config", "seeds", "files", "proportion", "cpu", "precision", "check", "result", "checkpoints", "data",
        "augment", "models", "training", "inspection", "prediction", "diagnosis", "synthetic", "trainable",
    ),
}  # fmt: skip
TRACKED = {"ray", "optuna", "mlflow", "torch", "torchvision"}
TEST_SPLIT = "trainables.data.held_out"


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported; `from a import b` gives `a.b`, which may be a module or not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: (None if is_package else -1)]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def upward(importer: str, imported: str) -> bool:
    """Whether this edge leads from a package to a later one of the same top package, or to a verb."""
    (top, *source), (other, *target) = importer.split("."), imported.split(".")
    order = ORDER.get(top, ())
    if top != other or not source or not target or source[0] not in order:
        return False
    return target[0] not in order or order.index(target[0]) > order.index(source[0])


def forbidden(importer: str, imported: str) -> str | None:
    """The rule that this edge breaks, if any."""
    library = imported.split(".")[0]
    if upward(importer, imported):
        return "imports inside a top package go downwards only"
    if within(importer, "search"):
        return "the search must not reach the test split" if within(imported, TEST_SPLIT) else None
    if library in ("ray", "optuna", "mlflow"):
        return "only search may import it"
    if within(imported, "search"):
        return "nothing below search may import it"
    if within(importer, "spaces"):
        if library == "trainables" and not within(imported, "trainables.config"):
            return "spaces may import trainables.config only"
        return "spaces must load without it" if library in TRACKED else None
    if within(imported, "spaces"):
        return "trainables must not know what is searched"
    if within(importer, "trainables.config"):
        if library == "trainables" and not within(imported, "trainables.config"):
            return "trainables.config may import itself only"
        return "trainables.config must load without it" if library in TRACKED else None
    return None


def sources() -> dict[str, tuple[Path, bool]]:
    """Every module of the three packages: its path, and whether it is a package."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            found[".".join(parts[:-1] if is_package else parts)] = (path, is_package)
    return found


def edges() -> Iterator[tuple[str, int, str]]:
    for module, (path, is_package) in sources().items():
        for line, imported in imports(path.read_text(encoding="utf-8"), module, is_package):
            yield module, line, imported


def test_no_edge_goes_the_wrong_way() -> None:
    assert len(sources()) > 10
    broken = [
        f"{module}:{line} imports {name}: {rule}" for module, line, name in edges() if (rule := forbidden(module, name))
    ]
    assert not broken, "\n".join(broken)


def test_every_package_has_a_place_in_the_order() -> None:
    for top, order in ORDER.items():
        packages = {path.parent.name for path in (ROOT / top).glob("*/__init__.py")}
        assert packages <= set(order)


def test_no_path_leads_from_the_search_to_the_test_split() -> None:
    modules = sources()
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, _, imported in edges():
        parts = imported.split(".")
        prefixes = (".".join(parts[: n + 1]) for n in range(len(parts)))  # importing a.b.c runs a and a.b as well
        graph[module].update(prefix for prefix in prefixes if prefix in modules)
    reached: dict[str, str] = {}
    pending = [(module, module) for module in modules if within(module, "search")]
    while pending:
        module, path = pending.pop()
        if module not in reached:
            reached[module] = path
            pending += [(child, f"{path} -> {child}") for child in sorted(graph[module])]
    assert "trainables.config" in reached
    assert TEST_SPLIT not in reached, reached[TEST_SPLIT]


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("trainables.training.loop", "def f():\n    from search.journal import records"),
        ("trainables.training.loop", "from spaces.space import Space"),
        ("search.study.spec", "from search.journal import events"),
        ("search.engine.driver", "def f():\n    import search.run"),
        ("trainables.data.store", "from trainables.models import build_model"),
        ("trainables.training.loop", "if True:\n    import mlflow.entities"),
        ("trainables.config.trial", "import torch"),
        ("trainables.config.trial", "from ..result import METRICS"),
        ("spaces.space", "import trainables.models.resnet as m"),
        ("spaces.space", "import importlib\nimportlib.import_module('ray.tune')"),
        ("search.run", "from trainables.data import held_out"),
        ("search.run", "def f():\n    import trainables.data.held_out"),
    ],
)
def test_a_wrong_edge_is_seen(importer: str, source: str) -> None:
    assert any(forbidden(importer, name) for _, name in imports(source, importer))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("trainables.training.loop", "import torch\nfrom trainables.data.held_out import open_test"),
        ("trainables.config", "from .part import Part"),
        ("spaces.space", "from trainables.config import TrialConfig\nfrom trainables.config.tree import merge"),
        ("spaces", "from .space import Space"),
        ("search.run", "import ray, optuna\nfrom trainables.training.loop import Run\nfrom spaces import space"),
    ],
)
def test_a_right_edge_is_allowed(importer: str, source: str) -> None:
    is_package = importer in ("trainables.config", "spaces")
    assert not [name for _, name in imports(source, importer, is_package) if forbidden(importer, name)]


def test_light_modules_load_no_heavy_library() -> None:
    light = (
        "search", "spaces", "spaces.space", "trainables.config", "trainables.result", "search.study.spec",
        "search.algorithms.schedulers.registry", "search.algorithms.searchers.base",
    )  # fmt: skip
    program = f"import sys, {', '.join(light)}; print(sorted(set(sys.modules) & {TRACKED!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_files_and_functions_are_short() -> None:
    for path in [path for package in ("search", "spaces", "trainables") for path in (ROOT / package).rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        assert source.count("\n") <= 300, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)
