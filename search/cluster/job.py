"""The head's side of `search.run --cluster`: submits a search as a Ray job, or finds the one that runs, and follows it.

Started over ssh, with a request in JSON on stdin. The first line of stdout is an answer in JSON, all others are what
the search prints; the exit code is the search's. The job does not depend on this process: it goes on when the
connection ends, and the next call follows it again from its beginning.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.engine.study_folder import study_folder
from search.storage.location import requested_storage
from search.storage.remote import VARIABLE, RemoteFolder
from search.study.parse import load_study, parse_study
from search.study.spec import StudySpec
from search.views.next_commands import SUBMITTED_BY
from trainables.cli import run_verb
from trainables.config import ConfigError, parse_yaml
from trainables.files import write_text

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["follow", "serve"]

DASHBOARD = "http://127.0.0.1:8265"
STUDY = "resnet-search-study"  # the key of a job's metadata that names its study's folder
SUBMITTED = Path("resnet-search", "submitted")  # below the home
LOOK_SECONDS = 1.0
# What Ray writes at the beginning of a job's log, a long command in it.
RAYS_OWN = re.compile(r"\A(?:[^\n]*(?: job_manager\.py:\d+ -- |Running entrypoint for job )[^\n]*\n?)+")


def serve() -> None:
    """Carry out the request on stdin.

    It holds `cluster`, `version`, `study` (YAML), `out` (below the home), `storage` (None: the cluster's own), `smoke`,
    `fresh`, `dry_run` and `columns`.
    """
    request: dict[str, Any] = json.load(sys.stdin)
    here = metadata.version("resnet-search")
    if request["version"] != here:
        rule = f"must have your version, {request['version']}, and has {here}: make wheel, and ray up again"
        raise ConfigError.single("--cluster", request["cluster"], rule)
    spec, out = parse_study(parse_yaml(request["study"], "study")), Path.home() / request["out"]
    if request["dry_run"]:
        sys.exit(_dry_run(spec, out, request))
    client = _client(request["cluster"])
    storage = _storage(request)
    job = None if request["fresh"] else _live_job(client, out / spec.study)
    attached = job is not None
    # While the search runs, the folder here has all that there is.
    try:
        spec, _ = study_folder(spec, out, request["fresh"], None if attached else storage)
    except ConfigError as error:
        where = f"on the head of {request['cluster']}"
        raise ConfigError(replace(p, path=f"{p.path} {where}") for p in error.problems) from None
    if job is None:
        job = _submit(client, spec, out, storage, request["columns"])
    print(json.dumps({"study": spec.study, "job": job, "attached": attached}), flush=True)  # noqa: T201 (the protocol)
    if attached and (other := _other_budget(job, spec)):
        print(f"it runs with {other}; to change that, stop it and give this command again", flush=True)  # noqa: T201
    try:
        code = follow(client, job)
    except (OSError, RuntimeError) as error:  # Ray went away, and the search with it
        print(f"--cluster: {_away(request['cluster'], error)}", file=sys.stderr)  # noqa: T201 (shown there)
        code = 1
    sys.exit(code)


def _client(cluster: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(DASHBOARD)
        client.list_jobs()  # the first request that wants the token
    except (OSError, RuntimeError) as error:
        raise ConfigError.single("--cluster", cluster, _away(cluster, error)) from None
    return client


def _away(cluster: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return f"must be a cluster whose Ray runs ({reason}): ray up {shlex.quote(cluster)}"


def _live_job(client: JobSubmissionClient, folder: Path) -> str | None:
    """The job that searches in this folder now."""
    for job in client.list_jobs():
        if (job.metadata or {}).get(STUDY) == str(folder) and not job.status.is_terminal():
            return str(job.submission_id)
    return None


def _other_budget(job: str, spec: StudySpec) -> str:
    """In what the running search's budget differs from the one that was asked for now."""
    running = load_study(str(Path.home() / SUBMITTED / f"{job}.yaml")).budget
    return ", ".join(
        f"--{name.replace('_', '-')} {was if was is not None else 'unlimited'}"
        for name, was in running.model_dump().items()
        if was != getattr(spec.budget, name)
    )


def _storage(request: dict[str, Any]) -> RemoteFolder | None:
    """Where the search is kept, if anywhere."""
    uri = request["storage"] or os.environ.get(VARIABLE)
    return requested_storage(uri, request["smoke"]) if uri else None


def _search(spec: StudySpec, name: str, out: Path, *options: str) -> list[str]:
    """The command of the search, whose study is kept under this name."""
    study = Path.home() / SUBMITTED / f"{name}.yaml"
    write_text(study, spec.dump())
    # -P: what lies in the directory where Ray happens to start it must not be imported.
    return [sys.executable, "-P", "-m", "search.run", str(study), "--out", str(out), *options]


def _submit(client: JobSubmissionClient, spec: StudySpec, out: Path, storage: RemoteFolder | None, columns: int) -> str:
    job = f"{spec.study}-{time.strftime('%Y%m%d-%H%M%S')}"
    kept = ["--storage", storage.uri] if storage is not None else []
    # The head's MLflow is its own: while it is slow to come up, trials need not wait for it.
    command = shlex.join(_search(spec, job, out, "--tracking-later", *kept))
    client.submit_job(
        entrypoint=f"exec env {SUBMITTED_BY}=1 COLUMNS={columns} {command}",
        submission_id=job,
        metadata={STUDY: str(out / spec.study)},
    )
    return job


def _dry_run(spec: StudySpec, out: Path, request: dict[str, Any]) -> int:
    command = _search(spec, f"{spec.study}-dry-run", out, "--dry-run")
    return subprocess.run(  # noqa: S603 (our own command)
        command, env=os.environ | {"COLUMNS": str(request["columns"])}, check=False
    ).returncode


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print what a job prints until it ends; its exit code. A job that was stopped from outside gives 130."""
    from ray.job_submission import JobStatus

    seen = 0
    while True:
        info = client.get_job_info(job)  # before the log, which then is complete if the job has ended
        text = RAYS_OWN.sub("", client.get_job_logs(job))
        sys.stdout.write(text[seen:])
        sys.stdout.flush()
        seen = len(text)
        if info.status is JobStatus.STOPPED:
            return 130
        if info.status.is_terminal():
            if info.driver_exit_code is None and info.message and info.status is JobStatus.FAILED:
                print(info.message, file=sys.stderr)  # noqa: T201 (why there is no exit code)
            return int(info.driver_exit_code or info.status is JobStatus.FAILED)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run_verb(serve)
