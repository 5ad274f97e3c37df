"""`search.run --cluster`: a search on a cluster, submitted, followed and brought back from one's own machine."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from search.cluster.fetch import bring_back, bring_checkpoint, tell_results
from search.cluster.head import ENVIRONMENT, LOST, RUNS, Head, find_head
from search.study.spec import StudySpec
from search.views.console import say
from search.views.next_commands import elsewhere, program, shown
from trainables.config import ConfigError
from trainables.files import write_text

__all__ = ["search_on"]

REFUSED = 2  # the exit code of bad input: nothing was begun


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
    tell_results(folder, bring_checkpoint(head, there / answer["study"], folder), cluster, console)
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
    process = head.popen(["python", "-P", "-m", "search.cluster.job"], json.dumps(request).encode(), subprocess.PIPE)
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
        there = f"{program('ray')} exec {head.cluster} '{ENVIRONMENT}"
        status = f"{there}; python -m search.status {answer['study']} --out {request['out']}'"
        stop = f"{there}; ray job stop {answer['job']}'"
        say(console, "\nleft: the search goes on there.")
        say(console, f"  {again(answer['study'])}   # follow it again")
        say(console, f"  {status}   # how it stands")
        say(console, f"  {stop}   # stop it: its trials are saved, which may take two minutes")
        sys.stdout.flush()
        os._exit(130)  # at once: Ray's own exit would answer a second Ctrl-C with a traceback
    code = process.wait()
    if code == LOST and answer is None:
        rule = f"must be reachable by ssh as {head.login}, with the key it names: ray up {shlex.quote(head.cluster)}"
        raise ConfigError.single("--cluster", head.cluster, rule)
    return answer, code


def _tell_lost(head: Head, console: Console, again: str) -> int:
    say(console, f"the connection to {head.login} was lost; the search goes on there if its machine does.")
    say(console, f"  {again}   # follow it again; if the head is lost, `ray up {head.cluster}` first: it goes on")
    return 1
