"""What is packed is what runs: the wheel, installed in an environment of its own, far from this checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import importlib, sys
for name in sys.stdin.read().split():
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.prefix), module.__file__
"""


def run(*command: str | Path, cwd: Path, text: str | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; the libraries that it needs are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # what an earlier build left would be packed, too
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    run(*pip, "--python", folder / "env/bin/python", "install", "--no-deps", wheel, cwd=folder)
    (libraries,) = (folder / "env/lib").glob("python*/site-packages")
    (libraries / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return folder


@pytest.mark.slow
def test_every_module_of_the_wheel_can_be_imported(environment: Path) -> None:
    (wheel,) = environment.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    files = [Path(name) for name in names if name.endswith(".py")]
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    here = {path.relative_to(ROOT) for top in ("search", "spaces", "trainables") for path in (ROOT / top).rglob("*.py")}
    assert set(files) == here
    assert {f"search/views/report/{name}" for name in ("template.html.j2", "page.css", "page.js")} <= set(names)
    modules = [module for module in modules if not module.endswith("__main__")]
    run(environment / "env/bin/python", "-c", IMPORT_ALL, cwd=environment, text="\n".join(modules))


@pytest.mark.slow
def test_the_console_command_lists_its_verbs_and_runs_them(environment: Path) -> None:
    command = environment / "env/bin/resnet-search"
    listed = run(command, "--help", cwd=environment)
    for verb in ("run", "status", "check", "report", "export", "track", "ui", "train", "evaluate", "compare"):
        assert f"  {verb} " in listed
    assert "resnet-search status [OPTIONS]" in run(command, "status", "--help", cwd=environment)
    misspelt = subprocess.run([command, "statsu"], cwd=environment, capture_output=True, text=True, check=False)
    assert misspelt.returncode == 2
    assert "Did you mean 'status'?" in misspelt.stderr
