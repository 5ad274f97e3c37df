"""The head node of a Ray cluster, as it is reached from the machine that holds the cluster's file: over ssh alone.

Ray knows how to find the head (its public launcher interface) and which key opens it. Its own `ray exec` gives no exit
code and mixes a terminal into the output, so that ssh is called directly.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from trainables.config import ConfigError

__all__ = ["ENVIRONMENT", "LOST", "RUNS", "Head", "find_head"]

RUNS = PurePosixPath("resnet-search", "runs")  # the head's results folder, below its user's home
ENVIRONMENT = ". ~/resnet-search/env.sh"
LOST = 255  # ssh's exit code when there is no connection
# As `ray up` does: the address of a cloud's machine is another one's tomorrow, so that its key proves nothing.
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "20",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": os.devnull,
    "LogLevel": "ERROR",
    "IdentitiesOnly": "yes",
}


@dataclass(frozen=True)
class Head:
    """The head of a cluster that is up. `login` is what ssh takes, `cluster` the file's name as the user typed it."""

    cluster: str
    login: str
    options: tuple[str, ...]

    def ssh(self, *options: str) -> list[str]:
        """The ssh command line up to the remote command, with more options."""
        return ["ssh", *self.options, *options, self.login]

    def popen(self, command: list[str], stdin: bytes | None = None, stdout: int | IO[bytes] | None = None) -> Any:
        """Start a command on the head, in the environment of its searches."""
        remote = f"bash -c {shlex.quote(f'{ENVIRONMENT} && {shlex.join(command)}')}"
        process = subprocess.Popen(  # noqa: S603 (arguments are quoted)
            [*self.ssh(), remote], stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, stdout=stdout
        )
        if stdin is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it could not connect: its exit code tells
                process.stdin.write(stdin)
                process.stdin.close()
        return process


def find_head(cluster: Path) -> Head:
    """The head of the cluster that a file for `ray up` describes.

    Raises:
        ConfigError: if the file is none, or its cluster is not up.
    """
    config = _read(cluster)
    try:
        from ray.autoscaler import sdk
    except ImportError as error:
        rule = f"needs what the extra `cluster` installs ({error}): pip install 'resnet-search[cluster]'"
        raise ConfigError.single("--cluster", str(cluster), rule) from None
    said = io.StringIO()  # Ray prints what it does, and sometimes only there what went wrong
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            address = sdk.get_head_node_ip(str(cluster))
            auth = sdk.bootstrap_config(config)["auth"]
    except Exception as error:  # noqa: BLE001 (providers raise what they like; it is told below)
        lines = (str(error) or said.getvalue()).strip().splitlines() or [type(error).__name__]
        rule = f"must be a cluster that is up ({lines[0][:200]}): ray up {shlex.quote(str(cluster))}"
        raise ConfigError.single("--cluster", str(cluster), rule) from None
    options = [f"-o{name}={value}" for name, value in OPTIONS.items()]
    if key := auth.get("ssh_private_key"):
        options += ["-i", str(Path(key).expanduser())]
    if proxy := auth.get("ssh_proxy_command"):
        options += [f"-oProxyCommand={proxy}"]
    return Head(str(cluster), f"{auth['ssh_user']}@{address}", tuple(options))


def _read(cluster: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(cluster.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError.single("--cluster", str(cluster), f"must be a readable file ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError.single("--cluster", str(cluster), f"must be YAML ({reason})") from None
    if not (isinstance(config, Mapping) and {"cluster_name", "provider", "auth"} <= set(config)):
        rule = "must be a cluster file for `ray up`, with cluster_name, provider and auth"
        raise ConfigError.single("--cluster", str(cluster), rule)
    return dict(config)
