"""Runs what README.md and docs/ say to type, as far as it can be run here: `make snippets`; `--all` runs all again.

Each command runs in `runs/snippets`, beside files and studies with the names that the pages use, on scikit-learn's
digits, without a network or a GPU. What is a placeholder for the reader is filled in first (`snippets.PLACEHOLDERS`).
`snippets.json` says when each was run, with which versions, or why it is not run here. Without `--all` only what was
never run is run. `--later` runs nothing, and notes what is missing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from docs.snippets import ROOT, blocks, commands, filled, modules  # noqa: E402 (found through the path above)
from spaces import read_study  # noqa: E402

__all__ = ["RECORD", "snippets"]

RECORD, WORK = DOCS / "snippets.json", ROOT / "runs" / "snippets"
LIMIT = 900  # seconds for a command
NOT_YET = "not yet: tests have checked its words only"
# Why a command is not run here: by what it contains.
REASONS = {
    r"^import search\n\nresult": "docs/quickstart.ipynb and docs/api_example.py make the same calls: tests",
    r"^make ": "a target for a checkout; the project's gate runs setup, lint, test, test-slow and test-numeric",
    r"--cluster|^ray |^aws ": "needs a cluster: tests/search/cluster makes one of its own",
    r"^sbatch ": "needs SLURM: tests/test_slurm.py has stand-ins for it",
    r"mlflow.server|^mlflow ui|MLFLOW_TRACKING_": "needs users and passwords: tests/test_mlflow_server.py",
    r"search\.ui": "stays until Ctrl-C: tests/search/test_ui.py, and docs/figures.py makes its pictures",
    r"search\.run (cifar10|imagefolder)|cifar10_resnet110 --from": "needs CIFAR-10, weights or many images",
    r"resnet56|moco|parquet:": "needs pretrained weights, or images of the reader as Parquet",
    r"probe\.yaml|weights\.yaml|right\.yaml|evaluate CONFIG": "needs the pretrained weights that the page is about",
    r"your_pipeline|my_pipeline|^read |^ssh |^\. |path/to|run \.\.\. |RESNET_SEARCH_": "stands for what the reader has",
    r"torchvision:DEFAULT": "needs photographs: tests/search/test_init.py",
    r"hymenoptera|photos\.yaml|new_photos|my_net": "needs photographs: tests/search/test_init.py, test_own_networks.py",
    r"load\.py|to_json|mlflow models|^cd ": "runs in an exported folder: tests/search/test_parity.py",
    r"benchmarks\.|rivals": "takes up to an hour: the page says what it printed",
    r"-completion$": "changes the shell's settings: tests/search/test_completion.py",
    r"^pip |pytest": "what the tests themselves need",
    r"search\.(run|status) runs/|--out ~": "another folder's study: tests/search/test_run.py",
}  # fmt: skip
CONFIG = {
    "model": {"kind": "cifar_resnet", "depth": 8}, "data": {"source": "digits", "val_fraction": 0.2},
    "optimizer": {"kind": "sgd", "lr": 0.05}, "epochs": 2,
}  # fmt: skip
# The study that is there, so small that its trials take seconds.
SMALL = {
    "trial": read_study("digits_resnet8")["trial"] | {"data": CONFIG["data"] | {"train_samples": 300}},
    "budget": {"trials": 3, "epochs": 2}, "refit": None,
}  # fmt: skip


def snippets() -> list[str]:
    """Every command in the order of the pages, and every block of Python but those that tests train or export.

    The mere name of a verb or a program in running text is left out.
    """
    names = {"python": 3, "resnet-search": 2, "mlflow": 2}
    typed = [command.text for command in commands()]
    found = [text for text in typed if len(text.split()) > names.get(text.split()[0], 1)]
    python = [block.text for block in blocks() if block.language == "python" and block.page != "api.md"]
    found += [text for text in python if not re.search(r"^(class|def|from load) ", text, re.MULTILINE)]
    return list(dict.fromkeys(found))


def prepare() -> None:
    """Make the files and the study that the pages name."""
    shutil.rmtree(WORK, ignore_errors=True)
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:600], digits.target, strict=False)):
        path = WORK / "photos" / ("test" if i % 6 == 0 else "train") / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(pixels * 255 / 16)).resize((32, 32)).save(path)
    for name, rate in (
        ("config", 0.05),
        ("naive", 0.01),
        ("other", 0.1),
        ("third", 0.2),
        ("hot", 8.0),
        ("one_cycle", 0.1),
        ("he2015_long", 0.1),
    ):
        tree = CONFIG | {"optimizer": {"kind": "sgd", "lr": rate}}
        (WORK / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    for name, text in modules().items():
        (WORK / f"{name}.py").write_text(text)
    for name in ("a.jpg", "b.png"):
        Image.open(WORK / "photos" / "test" / "0" / "0.png").save(WORK / name)
    for command in (
        "python -m search.run digits_resnet8 --trials 4 --epochs 2 --set data.train_samples=300",
        "python -m trainables.train config.yaml --checkpoint model.pt",
        "python -m trainables.train hot.yaml --checkpoint hot.pt",
        "python -m search.diagnose model.pt --write-images written",
    ):
        run(command)
    shutil.copy(WORK / "runs" / "digits_resnet8" / "best_config.yaml", WORK)
    shutil.copy(WORK / "written" / "images.csv", WORK / "theirs.csv")


def run(command: str) -> None:
    """Run a command, and end with what it printed if it fails."""
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BROWSER": "true",
        "HOME": str(WORK),
    }
    here = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    start = time.monotonic()
    done = subprocess.run(
        ["/bin/bash", "-c", command], cwd=WORK, env=here | own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    print(f"{time.monotonic() - start:5.0f} s  {command}", flush=True)
    if done.returncode:
        raise SystemExit(f"{command}\nended with exit code {done.returncode}:\n{done.stdout[-4000:]}")


def as_it_is_run(snippet: str) -> str:
    """The command with its placeholders filled, on the study and the config that are there."""
    text = filled(snippet)
    if "\n" in text:
        return f"python -c {shlex.quote(text)}"
    if "search.run" in text:
        text = text.replace("digits_resnet8", "mine.yaml") if "STUDY" in snippet else text
    else:
        text = re.sub(r"cifar10_resnet\d+( digits_resnet8)?|(?<=search\.report )(mine|photos)", "digits_resnet8", text)
    is_study = re.search(r"search[. ]run (mine|new)\.yaml", text)
    for name in ("mine", "new"):
        tree = read_study("digits_resnet8") | SMALL | {"study": name} if is_study else CONFIG
        (WORK / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    if "search.init" in text:
        for name in ("photos", "mine"):
            (WORK / f"{name}.yaml").unlink(missing_ok=True)  # `init` replaces no file
    return text


def entry(snippet: str, done: set[str], later: bool) -> dict[str, Any]:
    """Run a command, unless it was `done` in other words; or say why not."""
    for pattern, reason in REASONS.items():
        if re.search(pattern, snippet):
            return {"not_run": reason}
    if later:
        return {"not_run": NOT_YET}
    if not (WORK / "theirs.csv").exists():
        prepare()
    text = as_it_is_run(snippet)
    if text not in done:
        run(text)
        done.add(text)
    return {"run": time.strftime("%Y-%m-%d")} | ({"as": text} if text != snippet and "\n" not in text else {})


def main() -> None:
    known = json.loads(RECORD.read_text(encoding="utf-8"))["commands"] if RECORD.exists() else {}
    known = {snippet: found for snippet, found in known.items() if found.get("not_run") != NOT_YET}
    if "--all" in sys.argv:
        known = {}
        shutil.rmtree(WORK, ignore_errors=True)
    packages = ("resnet-search", "torch", "ray", "optuna", "mlflow")
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    done: set[str] = set()
    for snippet in snippets():
        if snippet not in known:
            known[snippet] = entry(snippet, done, "--later" in sys.argv)
        # After each, since the next may fail; in the order of the pages, without what they no longer say.
        record = {snippet: known[snippet] for snippet in snippets() if snippet in known}
        content = {"versions": versions, "commands": record}
        RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
