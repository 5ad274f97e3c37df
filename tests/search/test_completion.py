"""`resnet-search` completed by a shell: as its script calls it, and by a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.__main__ import VERBS

ROOT = Path(__file__).parents[2]
HEAVY = {"mlflow", "optuna", "ray", "torch", "torchvision"}


def completed(line: str, folder: Path) -> list[str]:
    """What bash would offer for the last word of a line, which may be empty."""
    done = subprocess.run(
        [sys.executable, "-m", "search"], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {
            "PYTHONPATH": str(ROOT), "_RESNET_SEARCH_COMPLETE": "complete_bash", "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        },
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two results folders, with a study in each."""
    for out, study in (("runs", "birds"), ("elsewhere", "bees")):
        journal = tmp_path / out / study / "journal"
        journal.mkdir(parents=True)
        (journal / "session-000001.jsonl").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("resnet-search re", {"refit", "report"}),
        ("resnet-search --show", {"--show-completion"}),
        ("resnet-search run --tr", {"--trials", "--tracking-later"}),
        ("resnet-search run digits", {"digits_resnet8"}),
        ("resnet-search report ", {"birds"}),
        ("resnet-search report --out elsewhere b", {"bees"}),
        ("resnet-search check model", set()),  # the shell offers files then
        ("resnet-search export birds --format o", {"onnx"}),
        ("resnet-search train --se", {"--seed"}),
    ],
)
def test_verbs_options_studies_and_choices_are_offered(line: str, offered: set[str], folder: Path) -> None:
    assert set(completed(line, folder)) == offered


def test_zsh_and_fish_hand_the_line_over_in_another_variable(folder: Path) -> None:
    for shell in ("zsh", "fish"):
        variables = {
            "_RESNET_SEARCH_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "resnet-search status bi",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "search"], cwd=folder, env=os.environ | variables, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert "birds" in done.stdout


def test_no_verb_loads_a_heavy_library_to_say_its_options() -> None:
    modules = sorted(module for module, _ in VERBS.values())
    program = f"import sys, {', '.join(modules)}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_bash_completes_by_the_script_that_it_is_shown(folder: Path) -> None:
    program = folder / "bin" / "resnet-search"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m search "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(resnet-search --show-completion)"
        COMP_WORDS=(resnet-search trials b) COMP_CWORD=2
        _resnet_search_completion resnet-search
        echo "${COMPREPLY[@]}"
        complete -p resnet-search
    """
    variables = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=folder, env=os.environ | variables, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "birds\ncomplete -o default -F _resnet_search_completion resnet-search\n"


def test_the_command_finds_modules_of_the_current_folder(folder: Path) -> None:
    program = folder / "bin" / "resnet-search"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom search.__main__ import main\n\nmain()\n")
    program.chmod(0o755)
    layers = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes)"
    code = f"from torch import nn\n\n\ndef build(num_classes):\n    return nn.Sequential({layers})\n"
    (folder / "my_net.py").write_text(code)
    done = subprocess.run(
        [program, "init", "digits", "--model", "my_net:build", "--plugin", "my_net"], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "digits.yaml").exists()
