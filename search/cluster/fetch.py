"""The results of a search on a cluster: copied to one's own machine, with what to do with them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from rich.console import Console

from search.cluster.head import Head
from search.journal.error_text import required
from search.journal.result import collect
from search.journal.study_folder import read_study
from search.storage.checkpoints import CHECKPOINTS, checkpoint_at
from search.storage.location import REMEMBERED, is_prefix, journal_contents
from search.views.console import say
from search.views.next_commands import after_search, program, shown
from trainables.config import ConfigError, load_yaml
from trainables.files import replaced, replacing

__all__ = ["fetch_results", "fetch_checkpoint", "contains", "print_results"]

EXCLUDED = (CHECKPOINTS, "ray", REMEMBERED)  # in a study's folder: large, or useful on the cluster only


def fetch_results(head: Head, study: PurePosixPath, out: Path) -> Path:
    """Copy a study's results, without checkpoints, from the head's `study` to below `out`; returns where.

    An earlier copy is replaced. If another search has the folder of that name, this one gets the first free one of
    `<study>-2`, `<study>-3`, ...

    Raises:
        ConfigError: if `out` cannot be written, or the copy failed.
    """
    exclude = [f"--exclude={study.name}/{name}" for name in EXCLUDED]
    command = ["tar", "-C", str(study.parent), "-czf", "-", *exclude, study.name]
    with required("--out", out, "must be a folder that can be written"):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".from-cluster-") as temporary:
            process = head.popen(command, stdout=subprocess.PIPE)
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|gz") as archive:
                    archive.extractall(temporary, filter="data")
            except tarfile.TarError as error:
                process.wait()
                rule = f"could not be copied from {head.login} ({error}): give the same command again"
                raise ConfigError.single("--cluster", str(study), rule) from None
            process.wait()
            copy = Path(temporary) / study.name
            folder, number = out / study.name, 1
            while not contains(copy, folder):
                number += 1
                folder = out / f"{study.name}-{number}"
            for path in copy.rglob("*"):
                if path.is_file():
                    with replacing(folder / path.relative_to(copy)) as partial:
                        shutil.copyfile(path, partial)
            return folder


def contains(copy: Path, here: Path) -> bool:
    """Whether the journal in `copy` holds all that the one in `here` has: then nothing is lost by replacing it."""
    return is_prefix(journal_contents(here), journal_contents(copy))


def fetch_checkpoint(head: Head, study: PurePosixPath, folder: Path) -> Path | None:
    """Copy the best trial's checkpoint from the head's `study` into the study's `folder` here; None if it has none.

    Raises:
        ConfigError: if the copied results cannot be read, or `folder` cannot be written.
    """
    best = collect(*read_study(folder)).best()
    if best is None or best.checkpoint is None:
        return None
    name = checkpoint_at(best.checkpoint)
    target = folder / name
    if target.exists():  # a checkpoint never changes once it is written
        return target
    with replaced(target) as partial:
        with partial.open("wb") as file:
            code = head.popen(["cat", str(study / name)], stdout=file).wait()
        if code == 0:
            return target
    target.unlink(missing_ok=True)
    return None


def print_results(folder: Path, cluster: Path, console: Console) -> None:
    """Print what is on this machine now, and what to do with it."""
    say(console, f"results: {shown(folder)}")
    best, where = folder / "best_config.yaml", ", here"
    if best.exists():
        say(console, f"best config: {shown(best)}")
        _, colon, images = str(load_yaml(best)["config"]["data"]["source"]).partition(":")
        where += f", if its images are here in {images}, too" if colon else ""
    compare = f"{program('python')} -m search.ui {folder.name} --cluster {shlex.quote(str(cluster))}"
    for line in after_search(collect(*read_study(folder)), folder, compare, where):
        say(console, f"  {line}")
