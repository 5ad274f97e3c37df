"""An emulation of AWS on this machine (moto), and its S3 for as long as a test needs it."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "searches"


class MotoServer:
    """A server. What it holds outlives a `stop`, as if the network had been gone, and ends with `reset`."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        with socket.socket() as probe:
            probe.bind((address, 0))
            self._port = int(probe.getsockname()[1])
        self._address, self.endpoint = address, f"http://{address}:{self._port}"
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer(self._address, self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def reset(self) -> None:
        reset = urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")  # noqa: S310 (this machine)
        urllib.request.urlopen(reset, timeout=30).close()  # noqa: S310 (this machine)


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    """The server with one bucket; whatever is started in this environment finds it."""
    server = MotoServer()
    for name, value in (
        ("AWS_ENDPOINT_URL", server.endpoint), ("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield server
        server.reset()
    finally:
        server.stop()
