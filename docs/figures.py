"""Makes the pictures of the documentation from real runs: `make docs-figures`, or `python docs/figures.py terminal`.

`terminal`, `mlflow` and `optuna` show a search on digits, which takes two minutes; `quickstart` runs the notebook.
`report` shows the study of answers.md, an hour on two cores, and `inspect` a copy of CIFAR-10's test images with
planted faults; both need RESNET_SEARCH_DATA, and `inspect` RESNET_SEARCH_WEIGHTS (docs/guide.md, "Tests"). What is run
is in `runs/figures`; the study of answers.md is not trained again while it is there. docs/generate.py makes
`architecture.svg`. Pages are drawn by Chromium, with the fonts of fonts-liberation.
"""

from __future__ import annotations

import base64
import fcntl
import io
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from nbclient import NotebookClient
from PIL import Image, ImageOps
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).resolve().parent
ROOT, WORK = DOCS.parent, DOCS.parent / "runs" / "figures"
sys.path.insert(0, str(ROOT))

import search  # noqa: E402 (found through the path above)
from tests.search.views.browser import NAMES, Browser, browser  # noqa: E402 (found through the path above)
from tests.trainables.inspection.planted import changed, copied, mislabelled  # noqa: E402

# MLflow opens a panel beside the table for whoever comes for the first time.
CLOSE_ASSISTANT = """document.querySelector('button[aria-label="Close"]')?.click()"""
WIDGET = "application/vnd.jupyter.widget-view+json"
COLUMNS, ROWS = 118, 60  # of the terminal
SEARCH = "python -m search.run digits_resnet8"
ANSWERS = (
    "python -m search.run cifar10_resnet20 --data parquet:PATH --set model.depth=8"
    " --set data.train_samples=3000 --set data.val_samples=2000 --epochs 12 --trials 16"
)
EXPLAIN = "python -m search.explain cifar10_resnet20 --from naive"
REPORT = "python -m search.report cifar10_resnet20"
INSPECT = "python -m trainables.inspect parquet:planted --weights resnet20-12fca82f.th --set model.depth=20"
# What a terminal does with a line that rich draws anew: up, erase, and the cursor that is hidden and shown.
CONTROL = re.compile(r"(\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[hl]|\r|\n)")


def environment() -> dict[str, str]:
    """This Python first, so that `python` is the one that is meant, and no MLflow server but the default file."""
    here = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return here | {"PATH": path, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}


def folder(name: str) -> Path:
    """An empty folder to run commands in."""
    shutil.rmtree(WORK / name, ignore_errors=True)
    (WORK / name).mkdir(parents=True)
    return WORK / name


def needed(variable: str, what: str) -> Path:
    """The folder that an environment variable names."""
    if not (value := os.environ.get(variable)):
        raise SystemExit(f"{variable} is not set: {what} needs it")
    return Path(value).resolve()


def typed(command: str, cwd: Path) -> str:
    """What a command writes to a terminal, with its colors and all else."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        shlex.split(command), cwd=cwd, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while more := os.read(ours, 1 << 16):
            written += more
    except OSError:  # how Linux says that the other end was closed
        pass
    if process.wait():
        raise SystemExit(f"{command} ended with exit code {process.returncode}:\n{written.decode()}")
    return written.decode()


def on_screen(written: str) -> list[str]:
    """The lines that stand on a terminal in the end."""
    lines, row = [""], 0
    for part in CONTROL.split(written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.endswith("A") and CONTROL.fullmatch(part):
            row = max(row - int(part[2:-1] or 1), 0)
        elif part and not CONTROL.fullmatch(part):
            lines[row] += part
    return lines


def save(tab: Browser, name: str, width: int, height: int) -> None:
    """Write what a tab shows, from its upper left corner, to docs/."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = tab("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)


def open_page(tab: Browser, url: str, text: str, width: int, height: int) -> None:
    """Load a page of a server and wait until a text is there, and until what moves has come to rest."""
    tab("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    tab("Page.navigate", url=url)
    for _ in range(120):
        time.sleep(0.5)
        if tab.run(f"document.body !== null && document.body.innerText.includes({text!r})"):
            time.sleep(5)
            return
    raise SystemExit(f"{url} does not show {text!r}")


@contextmanager
def served(cwd: Path) -> Iterator[tuple[str, str]]:
    """The addresses of optuna-dashboard's study and of MLflow's table while `search.ui` runs."""
    command = [sys.executable, "-m", "search.ui", "digits_resnet8"]
    with subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().partition(": open ")[2].strip()
        trials = process.stdout.readline().partition("in MLflow: ")[2].strip()
        try:
            yield f"{address}/dashboard/studies/0", trials
        finally:
            process.send_signal(signal.SIGINT)


def digits(names: set[str], tab: Browser) -> None:
    """`terminal`, `mlflow` and `optuna`, of one search."""
    cwd = folder("digits")
    lines = [f"$ {SEARCH}", *on_screen(typed(SEARCH, cwd))]
    if "terminal" in names:
        terminal(lines, tab)
    if names & {"mlflow", "optuna"}:
        with served(cwd) as (optuna, mlflow):
            if "mlflow" in names:
                open_page(tab, mlflow, "matching runs", 1412, 800)
                tab.run(CLOSE_ASSISTANT)
                time.sleep(2)
                save(tab, "mlflow", 1412, 800)
            if "optuna" in names:
                open_page(tab, optuna, "Hyperparameter Importance", 1600, 1100)
                save(tab, "optuna", 1600, 1100)


def terminal(lines: list[str], tab: Browser) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=SEARCH), flags=re.DOTALL)  # they are on the web
    page = WORK / "terminal.html"
    page.write_text(f'<body style="margin: 0">{svg.replace("<svg ", "<svg width=1240 ", 1)}', encoding="utf-8")
    tab.show(page, width=1240)
    save(tab, "terminal", 1240, int(tab.run("document.querySelector('svg').getBoundingClientRect().height")))


def report(tab: Browser) -> None:
    cwd = WORK / "answers"
    cwd.mkdir(parents=True, exist_ok=True)
    if not (cwd / "PATH").exists():
        (cwd / "PATH").symlink_to(needed("RESNET_SEARCH_DATA", "report.png") / "cifar10_jpeg")
    study = cwd / "runs" / "cifar10_resnet20"
    typed(ANSWERS, cwd)
    if search.open_study(study).latest("explain") is None:  # a second one would train all of it again, with other seeds
        typed(EXPLAIN, cwd)
    typed(REPORT, cwd)
    tab.show(study / "report.html", width=1000)
    end = """document.querySelector('[data-kind="waterfall"]').closest('figure')"""
    save(tab, "report", 1000, int(tab.run(f"{end}.getBoundingClientRect().bottom + scrollY")) + 20)


def inspect(tab: Browser) -> None:
    data, weights = needed("RESNET_SEARCH_DATA", "inspect.png"), needed("RESNET_SEARCH_WEIGHTS", "inspect.png")
    cwd = folder("inspect")
    plant(next((data / "cifar10_jpeg").glob("test*")), cwd / "planted")
    (cwd / "resnet20-12fca82f.th").symlink_to(weights / "resnet20-12fca82f.th")
    typed(INSPECT, cwd)
    tab.show(cwd / "inspection" / "inspection.html", width=1100)
    save(tab, "inspect", 1100, 1000)


def plant(images: Path, planted: Path) -> None:
    """8,000 images to train on, 5 % of them with a wrong label, and 1,000 copies of them among 2,000 to validate on."""
    table = pq.read_table(images)
    rows = table.slice(0, 9000).to_pylist()
    wrong = np.random.default_rng(0).choice(8000, 400, replace=False)
    ways: tuple[Callable[[Image.Image], Image.Image], ...] = (Image.Image.copy, ImageOps.mirror)
    copies = [
        copied(row, f"copied/{i}.jpg") if i % 5 < 3 else changed(row, ways[i % 5 - 3], f"encoded/{i}.jpg", quality=80)
        for i, row in enumerate(rows[:1000])
    ]
    planted.mkdir()
    train = mislabelled(rows[:8000], [int(number) for number in wrong], 10)
    for split, content in (("train", train), ("val", rows[8000:] + copies)):
        pq.write_table(pa.Table.from_pylist(content, schema=table.schema), planted / f"{split}.parquet")


def quickstart(tab: Browser) -> None:
    """The outputs of quickstart.ipynb; widgets, which nothing but the kernel that made them can show, are left out."""
    path = DOCS / "quickstart.ipynb"
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder("quickstart"))}}
    NotebookClient(notebook, timeout=600, resources=resources, record_timing=False).execute(env=environment())
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    nbformat.write(notebook, path)


def main() -> None:
    pages = {"report": report, "inspect": inspect, "quickstart": quickstart}
    every = {"terminal", "mlflow", "optuna", *pages}
    names = set(sys.argv[1:]) or every
    if unknown := names - every:
        raise SystemExit(f"there are {', '.join(sorted(every))}, got {', '.join(sorted(unknown))}")
    if not any(map(shutil.which, NAMES)):
        raise SystemExit(f"none of {', '.join(NAMES)} is installed: apt-get install chromium fonts-liberation")
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab:
        if names - set(pages):
            digits(names, tab)
        for name in sorted(names & set(pages)):
            pages[name](tab)


if __name__ == "__main__":
    main()
