"""What the documentation derives from the code is what the code says today, and what it says to type is understood."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.run_snippets import RECORD, snippets
from docs.snippets import Block, blocks, commands, filled, modules, pages
from search.__main__ import VERBS
from search.api import read_spec
from search.study.parse import parse_study
from search.study.spec import StudySpec
from spaces import study_names
from trainables.config import ConfigError, TrialConfig, parse_config, parse_yaml
from trainables.config.plugins import allow_plugins

DOCS = Path(__file__).parents[1] / "docs"
ROOT = DOCS.parent
PAGES = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]
COMMANDS = {command.text: command for command in commands()}
KEYS = set(StudySpec.model_fields) | set(TrialConfig.model_fields)
# Programs that are neither ours nor a library's; `python FILE` is one of the reader's or of an exported folder.
SHELL = {".", "aws", "cd", "export", "read", "ssh"}
FOREIGN = {"--create-bucket-configuration", "--host", "--nodes", "--signal", "--time"}  # of aws, mlflow, sbatch
OVERRIDES = ("data", "trials", "epochs", "hours", "max_cost", "concurrent", "cpus_per_trial", "seed", "sets")
NOTIFY = """
from pydantic import BaseModel


class Notify:
    class Settings(BaseModel):
        channel: str

    def __init__(self, study, settings): ...
"""


@pytest.mark.parametrize("page", PAGES)
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == PAGES[page](), "run `make docs`"


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in DOCS.iterdir() if page.suffix in (".md", ".ipynb") and page.name != "README.md"]
    assert not [page for page in pages if f"]({page})" not in index]


def test_files_that_the_architecture_names_exist() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:search|trainables|spaces)/[\w/]*(?:\.py|/))`", text))
    assert len(named) > 20
    assert not [name for name in sorted(named) if not (DOCS.parent / name).exists()]


def verb_command(module: str) -> Any:
    """A verb as the parser of its command line."""
    app = typer.Typer()
    app.command()(getattr(import_module(module), module.rpartition(".")[2]))
    return typer.main.get_command(app)


def check_verb(module: str, words: list[str]) -> None:
    """The verb takes these words; a shipped study takes what they lay over it."""
    if not words:
        assert find_spec(module)
        return
    given = verb_command(module).make_context(module, list(words)).params
    if module == "search.run" and given["study"] in study_names():
        read_spec(given["study"], prices=given["price"] or [], **{key: given[key] for key in OVERRIDES if given[key]})


def check_program(program: str, words: list[str]) -> None:
    """Another program takes these words, as far as that can be told without running it."""
    match program, words:
        case "make", targets:
            assert all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)
        case "python", ["-m", "pytest", path, *_]:
            assert (ROOT / path).exists()
        case "python", ["-m", module, *options] if module.startswith("benchmarks."):
            source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
            assert all(f'"{option}"' in source for option in options if option.startswith("--"))
        case "python", ["-m", module, *_]:
            assert find_spec(module)
        case "pip", ["install", wanted]:
            assert f"\n{wanted.partition('[')[2].rstrip(']')} = [" in (ROOT / "pyproject.toml").read_text()
        case "sbatch", [script, *options]:
            assert (ROOT / script).exists()
            check_verb("search.run", options)
        case "deploy/mlflow-server.sh", options:
            assert (ROOT / program).exists()
            check_click("mlflow.cli", ["server", *options])
        case "ray", _:
            check_click("ray.scripts.scripts", words)
            assert all((ROOT / word).exists() for word in words if word.endswith(".yaml"))
        case "mlflow", _:
            check_click("mlflow.cli", words)
        case _:
            assert program in SHELL or (program == "python" and words[0].endswith(".py"))


def check_click(module: str, words: list[str]) -> None:
    """A command of a library takes these words; without any behind its name it has to be there only."""
    command = import_module(module).cli
    while hasattr(command, "commands"):
        name, *words = words
        command = command.get_command(None, name)
    if words:
        command.make_context(name, words)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's, which Ray's command line imports
@pytest.mark.parametrize("text", COMMANDS)
def test_commands_are_understood(text: str) -> None:
    command = COMMANDS[text]
    if command.verb is not None:
        check_verb(*command.verb)
    elif text.startswith("resnet-search "):
        assert text.split()[1:] in (["--help"], ["--install-completion"], ["--show-completion"])
    else:
        program, *words = shlex.split(filled(text))
        check_program(program, words)


def test_every_option_in_running_text_is_one_of_a_verb_or_of_a_program_that_the_text_is_about() -> None:
    known = {"--help", *FOREIGN}
    for module, _ in VERBS.values():
        known |= {option for parameter in verb_command(module).params for option in parameter.opts}
    known |= set(re.findall(r'"(--[a-z-]+)"', "".join(path.read_text() for path in ROOT.glob("benchmarks/*.py"))))
    named = {
        (page.name, option)
        for page in pages()
        for option in re.findall(r"`(--[a-z][\w-]*)", page.read_text(encoding="utf-8"))
        if option not in known
    }
    assert not named


@pytest.fixture
def my_pkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug-ins that the pages show, as the package that their configs name."""
    shown = [block.text for block in blocks() if block.page in ("models.md", "plugins.md") and block.language]
    plugins = {"my_pkg": "\n\n".join([*shown, NOTIFY]), **modules()}
    for name, text in plugins.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)  # another test's
    monkeypatch.syspath_prepend(tmp_path)
    allow_plugins(plugins)


def test_yaml_is_a_study_a_config_or_a_part_of_one(my_pkg: None) -> None:
    found = [(block, tree) for block in blocks() if (tree := _tree(block)) is not None]
    assert len(found) > 8
    for block, tree in found:
        problem = _problem(tree)
        assert problem is None, f"{block.page}:{block.line}: {problem}"


def _problem(tree: dict[str, Any]) -> str | None:
    """Why this is no config, and no part of a study of a shipped network or of one that a page shows."""
    study = {
        "study": "part", "budget": {"trials": 9, "epochs": 4}, "space": {"optimizer": {"lr": {"float": [0.01, 0.1]}}},
    }  # fmt: skip
    problems = []
    for model in ({"kind": "cifar_resnet", "depth": 8}, *({"kind": f"{name}:build"} for name in modules())):
        try:
            if set(tree) <= set(TrialConfig.model_fields):
                parse_config(tree)
            else:
                parse_study(study | {"trial": {"data": {"source": "digits"}, "model": model}} | tree)
        except ConfigError as error:
            problems.append(str(error))
        else:
            return None
    return problems[0]


def _tree(block: Block) -> dict[str, Any] | None:
    """What a block holds if it is YAML of ours."""
    if block.language not in ("", "yaml"):
        return None
    try:
        text = block.text.partition("\n\n    python")[0]
        # An indented block is what the page says to add under a study's `space:`.
        tree = parse_yaml(f"space:\n{text}" if text.startswith("  ") else text, block.page)
    except ConfigError:
        assert block.language != "yaml", f"{block.page}:{block.line} is not YAML"
        return None
    return tree if isinstance(tree, dict) and tree and set(tree) <= KEYS else None


def test_python_compiles_and_what_it_imports_is_there() -> None:
    found = 0
    for block in blocks():
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module not in (None, "load"):  # load.py is an exported model's
                found += 1
                missing = [name.name for name in node.names if not hasattr(import_module(node.module), name.name)]
                assert not missing, f"{block.page}:{block.line}: {node.module} has no {', '.join(missing)}"
    assert found > 5


def test_every_command_was_run_or_has_a_reason_why_not() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))["commands"]
    assert not [snippet for snippet in snippets() if snippet not in record], "run `make snippets`"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    here = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=here | {"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "runs" / "digits_resnet8" / "best_config.yaml").exists()


def test_the_notebook_that_readers_see_was_run_as_it_is_and_is_small() -> None:
    text = (DOCS / "quickstart.ipynb").read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert len(text) < 300_000
    assert not re.findall(r"[\"'\s(](/(?:home|root|tmp|work|Users)/\S*)", text)
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
