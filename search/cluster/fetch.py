"""What a search on a cluster leaves on one's own machine: its results, and what to do with them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from rich.console import Console

from search.cluster.head import Head
from search.journal.result import collect
from search.journal.study_folder import read_study
from search.storage.checkpoints import CHECKPOINTS, checkpoint_at
from search.storage.location import REMEMBERED, is_prefix, journal_contents
from search.views.console import say
from search.views.next_commands import elsewhere, program, shown
from trainables.config import ConfigError, load_yaml
from trainables.files import replaced

__all__ = ["bring_back", "bring_checkpoint", "contains", "tell_results"]

LEFT_THERE = (CHECKPOINTS, "ray", REMEMBERED)  # of a study's folder: large, or of use on the cluster only


def bring_back(head: Head, study: PurePosixPath, out: Path) -> Path:
    """Copy a study's results, without checkpoints, from the head's `study` to below `out`; returns where.

    What was brought before is replaced. Another search of that name that is there keeps its folder, and this one gets
    the first free one of `<study>-2`, `<study>-3`, ...

    Raises:
        ConfigError: if `out` cannot be written, or the copy failed.
    """
    leave = [f"--exclude={study.name}/{name}" for name in LEFT_THERE]
    command = ["tar", "-C", str(study.parent), "-czf", "-", *leave, study.name]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".from-cluster-") as temporary:
            process = head.popen(command, stdout=subprocess.PIPE)
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|gz") as archive:
                    archive.extractall(temporary, filter="data")
            except tarfile.TarError as error:
                process.wait()
                rule = f"could not be copied from {head.login} ({error}); the same command tries again"
                raise ConfigError.single("--cluster", str(study), rule) from None
            process.wait()
            brought = Path(temporary) / study.name
            folder, number = out / study.name, 1
            while not contains(brought, folder):
                number += 1
                folder = out / f"{study.name}-{number}"
            _replace(brought, folder)
    except OSError as error:
        rule = f"must be a folder that can be written ({error.strerror})"
        raise ConfigError.single("--out", str(out), rule) from None
    return folder


def contains(brought: Path, here: Path) -> bool:
    """Whether the journal in `brought` holds all that the one in `here` has: then nothing is lost by replacing it."""
    return is_prefix(journal_contents(here), journal_contents(brought))


def _replace(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, f"{to}.partial")
            os.replace(f"{to}.partial", to)


def bring_checkpoint(head: Head, study: PurePosixPath, folder: Path) -> Path | None:
    """Copy the best trial's checkpoint from the head's `study` into the study's `folder` here; None if it has none.

    Raises:
        ConfigError: if what was brought cannot be read, or `folder` not be written.
    """
    best = collect(*read_study(folder)).best()
    if best is None or best.checkpoint is None:
        return None
    name = checkpoint_at(best.checkpoint)
    target = folder / name
    if target.exists():  # a checkpoint, once written, is never another one
        return target
    with replaced(target) as partial:
        with partial.open("wb") as file:
            code = head.popen(["cat", str(study / name)], stdout=file).wait()
        if code == 0:
            return target
    target.unlink(missing_ok=True)
    return None


def tell_results(folder: Path, checkpoint: Path | None, cluster: Path, console: Console) -> None:
    """Say what is on this machine now, and what to do with it."""
    say(console, f"results: {shown(folder)}")
    python, best = program("python"), folder / "best_config.yaml"
    commands: list[tuple[str, str]] = []
    if best.exists():
        say(console, f"best config: {shown(best)}")
        source = str(load_yaml(best)["config"]["data"]["source"])
        images = "" if ":" not in source else f", if its images are here in {source.partition(':')[2]}, too"
        commands.append((f"trainables.train {shown(best)}", f"the same trial again, here{images}"))
        if checkpoint is not None:
            commands.append((f"trainables.evaluate {shown(checkpoint)} --split test", "once, when the choice is made"))
        commands.append(
            (f"search.export {folder.name} --trial N{elsewhere(folder.parent)}", "any other trial's config")
        )
    commands.append((f"search.status {folder.name}{elsewhere(folder.parent)}", "how it stood"))
    commands.append((f"search.ui {folder.name} --cluster {shlex.quote(str(cluster))}", "compare the trials in MLflow"))
    for command, purpose in commands:
        say(console, f"  {python} -m {command}   # {purpose}")
