"""`search.run --cluster`: a search on a cluster, submitted, followed and brought back from one's own machine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from search.cluster import LOST, RUNS, Head, find_head
from search.commands import elsewhere, program, shown
from search.outputs import write_text
from search.study import StudySpec
from search.terminal import say
from trainables.config import ConfigError

__all__ = ["bring_back", "contains", "search_on"]

REFUSED = 2  # the exit code of bad input: nothing was begun
LEFT_THERE = ("checkpoints", "ray")  # of a study's folder: large, and of use on the cluster only


def search_on(
    cluster: Path, spec: StudySpec, out: Path, console: Console, *,
    smoke: bool = False, fresh: bool = False, dry_run: bool = False, storage: str | None = None,
) -> None:  # fmt: skip
    """Search on the cluster as a Ray job, show what it prints, and bring its results to `out`.

    A search of this study that runs there already is followed, not started again. Ends the process with the search's
    exit code unless that is 0.

    Raises:
        ConfigError: if the cluster is not up, has another version, or refuses the study.
    """
    head = find_head(cluster)
    there = RUNS / "smoke" if smoke else RUNS
    request = {
        "version": metadata.version("resnet-search"), "cluster": str(cluster), "study": spec.dump(),
        "out": str(there), "storage": storage, "smoke": smoke, "fresh": fresh, "dry_run": dry_run,
        "columns": console.width,
    }  # fmt: skip

    def again(study: str) -> str:
        return _renamed(spec, study, cluster, out, smoke, storage) if fresh else _typed()

    answer, code = _follow(head, request, console, again)
    if dry_run or answer is None or code == REFUSED:
        sys.exit(code)
    if code == LOST:
        raise SystemExit(_tell_lost(head, console, again(answer["study"])))
    folder = bring_back(head, there / answer["study"], out)
    _tell_results(folder, cluster, console)
    if code:
        sys.exit(code)


def _typed() -> str:
    """This command, as it was typed."""
    return f"{program('python')} -m search.run {shlex.join(sys.argv[1:])}"


def _renamed(spec: StudySpec, study: str, cluster: Path, out: Path, smoke: bool, storage: str | None) -> str:
    """The command that follows a search which --fresh has given another name: the one typed would start one more."""
    path = out / "submitted" / f"{study}.yaml"
    write_text(path, spec.model_copy(update={"study": study}).dump())
    options = " --smoke" * smoke + (f" --storage {shlex.quote(storage)}" if storage else "")
    options += elsewhere(out)
    return f"{program('python')} -m search.run {shown(path)} --cluster {shlex.quote(str(cluster))}{options}"


def _follow(
    head: Head, request: dict[str, Any], console: Console, again: Callable[[str], str]
) -> tuple[dict[str, Any] | None, int]:
    """What the head answered, if it did, and the exit code of the search or of ssh.

    `again` gives the command that follows the search of a name.
    """
    process = head.popen(["python", "-P", "-m", "search.on_head"], json.dumps(request).encode(), subprocess.PIPE)
    answer: dict[str, Any] | None = None
    try:
        if not request["dry_run"] and (line := process.stdout.readline()):
            answer = json.loads(line)
            verb = "runs already, and is followed" if answer["attached"] else "was submitted"
            say(console, f"{answer['study']} {verb} on {head.cluster} as job {answer['job']}")
            command = again(answer["study"]) if request["fresh"] else "the same command"
            say(console, f"Ctrl-C leaves it running; {command} follows it again")
        for raw in iter(process.stdout.readline, b""):
            say(console, raw.decode(errors="replace").rstrip("\n"))
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        if answer is None:
            raise
        stop = f"{program('ray')} exec {head.cluster} '. ~/resnet-search/env.sh; ray job stop {answer['job']}'"
        follow = again(answer["study"])
        say(console, f"\nleft: the search goes on there.\n  {follow}   # follow it again\n  {stop}   # stop it")
        sys.exit(130)
    code = process.wait()
    if code == LOST and answer is None:
        rule = f"must be reachable by ssh as {head.login}: ray up {shlex.quote(head.cluster)} starts it again"
        raise ConfigError.single("--cluster", head.cluster, rule)
    return answer, code


def _tell_lost(head: Head, console: Console, again: str) -> int:
    say(console, f"the connection to {head.login} was lost; the search goes on there if its machine does.")
    say(console, f"  {again}   # follow it again; if the head is lost, `ray up {head.cluster}` first: it goes on")
    return 1


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
    for segment in sorted((here / "journal").glob("*.jsonl")):
        newer = brought / "journal" / segment.name
        if not (newer.exists() and newer.read_bytes().startswith(segment.read_bytes())):
            return False
    return True


def _replace(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, f"{to}.partial")
            os.replace(f"{to}.partial", to)


def _tell_results(folder: Path, cluster: Path, console: Console) -> None:
    say(console, f"results: {shown(folder)}")
    python, best = program("python"), folder / "best_config.yaml"
    if best.exists():
        say(console, f"best config: {shown(best)}")
        say(console, f"  {python} -m trainables.train {shown(best)}   # the same trial again, here")
    status = f"{python} -m search.status {folder.name}{elsewhere(folder.parent)}"
    say(console, f"  {status}   # how it stood")
    ui = f"{python} -m search.ui {folder.name} --cluster {shlex.quote(str(cluster))}"
    say(console, f"  {ui}   # compare the trials in MLflow")
