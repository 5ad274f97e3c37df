"""`search.run --cluster`: a search submitted as a Ray job, followed, and its results copied to one's own machine.

All of it is Ray's job client, through a tunnel of ssh. The job does not depend on this process: it continues when the
connection ends, and the next call follows it again from its beginning.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rich.console import Console

from search.cluster.fetch import fetch_checkpoint, fetch_results, print_results
from search.cluster.head import ENVIRONMENT, RUNS, Head, Tunnel, find_head
from search.journal.error_text import first_line
from search.study.spec import StudySpec
from search.views.console import say
from search.views.next_commands import SUBMITTED_BY, elsewhere, program, shown
from trainables.config import ConfigError
from trainables.config.plugins import allowed_plugins
from trainables.files import write_text

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

__all__ = ["search_on"]

DASHBOARD = 8265  # Ray's port on the head
SUBMITTED = PurePosixPath("resnet-search", "submitted")  # on the head: the YAML of each job's study, by the job's name
STUDY, BUDGET = "resnet-search-study", "resnet-search-budget"  # keys of a job's metadata: its folder, and a JSON object
REFUSED, INTERRUPTED = 2, 130  # exit codes of bad input, and of a search that was stopped
RAYS_OWN = re.compile(r" job_manager\.py:\d+ -- |^Running entrypoint for job ")  # the first lines of a job's log


def search_on(
    cluster: Path, spec: StudySpec, out: Path, console: Console, *,
    smoke: bool = False, fresh: bool = False, dry_run: bool = False, verbose: bool = False, storage: str | None = None,
    warm_start: Sequence[str] = (),
) -> int:  # fmt: skip
    """Search on the cluster as a Ray job, show what it prints, and copy its results to `out`; returns its exit code.

    A search of this study that runs there already is followed, not started again. With `fresh` the study is named after
    its job, so that no other one on the cluster or in its storage has that name. `warm_start` names studies there.

    Raises:
        ConfigError: if the cluster is not up, or has another version.
    """
    head = find_head(cluster)
    job = f"{spec.study}-{time.strftime('%Y%m%d-%H%M%S')}"
    if fresh:
        spec = spec.model_copy(update={"study": job})
    folder = (RUNS / "smoke" if smoke else RUNS) / spec.study
    options = [f"--plugin={name}" for name in allowed_plugins()] + ["--smoke"] * smoke
    options += [f"--storage={storage}"] if storage else []
    options += [f"--warm-start={name}" for name in warm_start]
    with head.tunnel(DASHBOARD) as tunnel:
        _check_version(head, tunnel)
        if dry_run:
            command = _command(
                head, spec, job, folder, [*options, "--dry-run", *["--verbose"] * verbose], console.width
            )
            return head.popen(["bash", "-c", command]).wait()
        client = _client(head, tunnel)
        live = _live_job(client, folder)
        if live is None:
            # The head's MLflow is its own: while it is slow to come up, trials need not wait for it.
            command = _command(head, spec, job, folder, [*options, "--tracking-later"], console.width)
            about = {STUDY: str(folder), BUDGET: spec.budget.model_dump_json()}
            client.submit_job(entrypoint=command, submission_id=job, metadata=about)
        else:
            job = str(live.submission_id)
        again = _renamed(spec, cluster, out, smoke, storage) if fresh else _typed()
        verb = "was submitted" if live is None else "runs already, and is followed"
        say(console, f"{spec.study} {verb} on {cluster} as job {job}")
        say(console, f"Ctrl-C leaves it running; {again if fresh else 'the same command'} follows it again")
        if live is not None and (other := _other_budget(live, spec)):
            say(console, f"it runs with {other}; to change that, stop it and give this command again")
        try:
            code = _follow(client, head, tunnel, job, console)
        except KeyboardInterrupt:
            _tell_left(head, folder, job, again, console)
            return INTERRUPTED
    if code is None:
        _tell_lost(head, console, again)
        return 1
    if code != REFUSED:
        results = fetch_results(head, folder, out)
        fetch_checkpoint(head, folder, results)
        print_results(results, cluster, console)
    return code


def _check_version(head: Head, tunnel: Tunnel) -> None:
    here = metadata.version("resnet-search")
    if tunnel.version != here:
        rule = f"must have your version, {here}, and has {tunnel.version or 'none'}: make wheel, and ray up again"
        raise ConfigError.single("--cluster", head.cluster, rule)


def _client(head: Head, tunnel: Tunnel) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # the client would go there instead
        os.environ.pop(name, None)
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # it reports how each log ended
    headers = {"Authorization": f"Bearer {tunnel.token}"} if tunnel.token else None
    try:
        client = JobSubmissionClient(f"http://127.0.0.1:{tunnel.port}", headers=headers)
        client.list_jobs()  # the first request that needs the token
    except (OSError, RuntimeError) as error:
        raise ConfigError.single("--cluster", head.cluster, _away(head, error)) from None
    return client


def _away(head: Head, error: Exception) -> str:
    return f"must be a cluster whose Ray runs ({first_line(error)}): ray up {shlex.quote(head.cluster)}"


def _live_job(client: JobSubmissionClient, folder: PurePosixPath) -> JobDetails | None:
    """The job that searches in this folder of the head now."""
    jobs = (job for job in client.list_jobs() if not job.status.is_terminal())
    return next((job for job in jobs if (job.metadata or {}).get(STUDY) == str(folder)), None)


def _command(head: Head, spec: StudySpec, job: str, folder: PurePosixPath, options: list[str], columns: int) -> str:
    """The shell command of a search on the head, where its study is written first."""
    path = SUBMITTED / f"{job}.yaml"
    head.write(path, spec.dump().encode())
    # -P: what lies in the directory where Ray happens to start it must not be imported.
    places = f'"$HOME"/{shlex.quote(str(path))} --out "$HOME"/{shlex.quote(str(folder.parent))}'
    return f"exec env {SUBMITTED_BY}=1 COLUMNS={columns} python -P -m search.run {places} {shlex.join(options)}"


def _other_budget(live: JobDetails, spec: StudySpec) -> str:
    """How the running search's budget differs from the one that was asked for now, as options."""
    return ", ".join(
        f"--{name.replace('_', '-')} {value if value is not None else 'unlimited'}"
        for name, value in json.loads((live.metadata or {})[BUDGET]).items()
        if value != getattr(spec.budget, name)
    )


def _follow(client: JobSubmissionClient, head: Head, tunnel: Tunnel, job: str, console: Console) -> int | None:
    """Print what a job prints until it ends; its exit code, None if the connection was lost."""
    from aiohttp import ClientError

    try:
        return asyncio.run(_tail(client, job, lambda line: say(console, line)))
    except (ClientError, OSError, RuntimeError) as error:
        if tunnel.is_lost():
            return None
        print(f"--cluster: {_away(head, error)}", file=sys.stderr)  # noqa: T201 (Ray is gone, and the search with it)
        return 1


async def _tail(client: JobSubmissionClient, job: str, show: Callable[[str], None]) -> int:
    from ray.job_submission import JobStatus

    rest, rays_own = "", True
    async for text in client.tail_job_logs(job):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            rays_own = rays_own and RAYS_OWN.search(line) is not None
            if not rays_own:
                show(line)
    if rest:
        show(rest)
    info = client.get_job_info(job)
    if not info.status.is_terminal():
        raise ConnectionError("the log ended before the job")
    if info.status is JobStatus.STOPPED:
        return INTERRUPTED
    if info.driver_exit_code is None and info.status is JobStatus.FAILED:
        show(info.message or "the job failed")  # why there is no exit code
    return int(info.driver_exit_code or info.status is JobStatus.FAILED)


def _typed() -> str:
    """This command, as it was typed."""
    return f"{program('python')} -m search.run {shlex.join(sys.argv[1:])}"


def _renamed(spec: StudySpec, cluster: Path, out: Path, smoke: bool, storage: str | None) -> str:
    """The command that follows a search which --fresh has given another name: the one typed would start one more."""
    path = out / "submitted" / f"{spec.study}.yaml"
    write_text(path, spec.dump())
    options = " --smoke" * smoke + (f" --storage {shlex.quote(storage)}" if storage else "")
    options += elsewhere(out)
    return f"{program('python')} -m search.run {shown(path)} --cluster {shlex.quote(str(cluster))}{options}"


def _tell_left(head: Head, folder: PurePosixPath, job: str, again: str, console: Console) -> None:
    there = f"{program('ray')} exec {head.cluster} '{ENVIRONMENT}"
    say(console, "\nleft: the search continues there.")
    say(console, f"  {again}   # follow it again")
    say(console, f"  {there}; python -m search.status {folder.name} --out {folder.parent}'   # how it stands")
    say(console, f"  {there}; ray job stop {job}'   # stop it: its trials are saved, which may take two minutes")


def _tell_lost(head: Head, console: Console, again: str) -> None:
    say(console, f"the connection to {head.login} was lost; the search continues there if its machine is up.")
    say(console, f"  {again}   # follow it again; if the head is lost, `ray up {head.cluster}` first: it is resumed")
