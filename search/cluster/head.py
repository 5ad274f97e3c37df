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
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from search.journal.error_text import first_line, required
from trainables.config import ConfigError

__all__ = ["ENVIRONMENT", "RUNS", "Head", "Tunnel", "find_head"]

RUNS = PurePosixPath("resnet-search", "runs")  # the head's results folder, below its user's home
ENVIRONMENT = ". ~/resnet-search/env.sh"
# As `ray up` does: a cloud gives the address of a machine to another one tomorrow, so that its key proves nothing.
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
VERSION = "from importlib.metadata import version; print(version('resnet-search'))"
# Two lines; then it stays as long as this process keeps the pipe open, even if this process is killed.
HELLO = f'echo "$(python -P -c "{VERSION}")"; echo "$(cat ~/.ray/auth_token 2>/dev/null)"; exec cat >/dev/null'
LOST_SECONDS = 5.0  # that ssh takes to end once a connection through it is gone


@dataclass(frozen=True)
class Tunnel:
    """A port of this machine that leads to one of the head's loopback; and what the head has installed.

    Attributes:
        port: of this machine.
        version: of resnet-search on the head; empty if there is none.
        token: without which the head's Ray refuses to talk; empty if it needs none.
    """

    port: int
    version: str
    token: str
    process: subprocess.Popen[bytes]

    def is_lost(self) -> bool:
        """Whether the connection to the head has ended; waits a few seconds for it to end."""
        try:
            return self.process.wait(LOST_SECONDS) is not None
        except subprocess.TimeoutExpired:
            return False


@dataclass(frozen=True)
class Head:
    """The head of a cluster that is up. `login` is what ssh takes, `cluster` the file's name as the user typed it."""

    cluster: str
    login: str
    options: tuple[str, ...]

    def ssh(self, *options: str) -> list[str]:
        """The ssh command line up to the remote command, with more options."""
        return ["ssh", *self.options, *options, self.login]

    def popen(
        self, command: list[str], *options: str, stdin: int = subprocess.DEVNULL, stdout: int | IO[bytes] | None = None,
        **more: Any,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start a command on the head, in the environment of its searches; `options` are ssh's, `more` Popen's."""
        remote = f"bash -c {shlex.quote(f'{ENVIRONMENT} && {shlex.join(command)}')}"
        return subprocess.Popen([*self.ssh(*options), remote], stdin=stdin, stdout=stdout, **more)  # noqa: S603

    def write(self, path: PurePosixPath, content: bytes) -> None:
        """Write a file on the head, below its user's home.

        Raises:
            ConfigError: if ssh does not get there, or the head's disk is full.
        """
        command = f"mkdir -p {shlex.quote(str(path.parent))} && cat > {shlex.quote(str(path))}"
        process = self.popen(["bash", "-c", command], stdin=subprocess.PIPE)
        process.communicate(content)
        if process.returncode:
            raise self._unreachable()

    @contextlib.contextmanager
    def tunnel(self, port: int) -> Iterator[Tunnel]:
        """Forward a free port of this machine to one of the head's loopback.

        Raises:
            ConfigError: if ssh does not get there.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            here = int(probe.getsockname()[1])
        forward = ("-oExitOnForwardFailure=yes", f"-L127.0.0.1:{here}:127.0.0.1:{port}")
        process = self.popen(
            ["bash", "-c", HELLO], *forward, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process alone
        )  # fmt: skip
        with process:
            try:
                version, token = (process.stdout.readline().decode().strip() for _ in range(2))  # type: ignore[union-attr]
                if process.poll() is not None:
                    raise self._unreachable()
                yield Tunnel(here, version, token, process)
            finally:
                process.terminate()

    def _unreachable(self) -> ConfigError:
        rule = f"must be reachable by ssh as {self.login}, with the key it names: ray up {shlex.quote(self.cluster)}"
        return ConfigError.single("--cluster", self.cluster, rule)


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
    printed = io.StringIO()  # Ray prints what it does, and sometimes only there what went wrong
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            address = sdk.get_head_node_ip(str(cluster))
            auth = sdk.bootstrap_config(config)["auth"]
    except Exception as error:  # noqa: BLE001 (providers raise what they like; it is reported below)
        lines = (str(error) or printed.getvalue()).strip().splitlines() or [type(error).__name__]
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
        with required("--cluster", cluster, "must be a readable file"):
            config = yaml.safe_load(cluster.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError.single("--cluster", str(cluster), f"must be YAML ({first_line(error)})") from None
    if not (isinstance(config, Mapping) and {"cluster_name", "provider", "auth"} <= set(config)):
        rule = "must be a cluster file for `ray up`, with cluster_name, provider and auth"
        raise ConfigError.single("--cluster", str(cluster), rule)
    return dict(config)
