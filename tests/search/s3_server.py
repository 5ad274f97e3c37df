"""An S3-compatible server on this machine (moto), for as long as a test needs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

BUCKET = "searches"


class S3Server:
    """A server with one bucket. Whoever is started in this environment finds it."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: str) -> None:
        self._process, self.endpoint = process, endpoint

    def freeze(self) -> None:
        """Answer nobody from now on, as if the network were gone."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def s3_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()  # noqa: S310 (this machine)
                break
            except OSError:
                assert process.poll() is None, (folder / "moto.log").read_text()
                assert time.monotonic() < deadline, "moto did not come up"
                time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield S3Server(process, endpoint)
    finally:
        process.kill()
        process.wait()
