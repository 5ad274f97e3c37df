"""An emulation of AWS (moto), with machines of a lab in the place of EC2's.

What the emulation only lists comes up, and goes when it is ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import boto3

from tests.search.lab import Lab, Node
from tests.search.s3_server import MotoServer

__all__ = ["Cloud", "Machines", "emulated"]

REGION = "us-west-2"
LOOK_SECONDS = 0.5


class Cloud:
    """AWS at an address of this machine; `environment` is where it is found."""

    def __init__(self, endpoint: str) -> None:
        self._keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        self.environment = {name.upper(): value for name, value in self._keys.items()} | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        endpoint = self.environment["AWS_ENDPOINT_URL"]
        return boto3.client(service, region_name=REGION, endpoint_url=endpoint, **self._keys)


@contextmanager
def emulated(address: str) -> Iterator[Cloud]:
    """AWS with nothing in it but the default network, and the policies that it has of itself."""
    with patch.dict(os.environ, MOTO_IAM_LOAD_MANAGED_POLICIES="true"):
        server = MotoServer(address)
        try:
            yield Cloud(server.endpoint)
        finally:
            server.reset()
            server.stop()


class Machines:
    """Makes a machine of each instance at its private address, which lets its key pair in; a context manager.

    Raises:
        RuntimeError: at the end, or when it is asked, if a machine could not be made.

    Args:
        ec2: boto3's client.
        lab: on the network of the instances.
    """

    def __init__(self, ec2: Any, lab: Lab) -> None:
        self._ec2, self._lab = ec2, lab
        self._nodes: dict[str, Node] = {}
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="machines")

    def __enter__(self) -> Machines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._raise_error()

    def trains(self, instance: str) -> bool:
        """Whether a trial trains on the machine of an instance; false while there is none yet."""
        node = self._nodes.get(instance)
        return node is not None and node.trains()

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """What EC2 says of the instances in these states, the oldest first.

        Raises:
            RuntimeError: if a machine could not be made.
        """
        self._raise_error()
        pages = self._ec2.get_paginator("describe_instances").paginate()
        found = [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]
        return sorted((i for i in found if i["State"]["Name"] in states), key=lambda i: i["LaunchTime"])

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RuntimeError("a machine could not be made") from self._error

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 (raised where the test asks next)
                self._error = error
                return

    def _follow(self) -> None:
        for instance in self.instances("pending", "running"):
            identity = instance["InstanceId"]
            if identity not in self._nodes:
                (pair,) = self._ec2.describe_key_pairs(KeyNames=[instance["KeyName"]], IncludePublicKey=True)[
                    "KeyPairs"
                ]
                self._nodes[identity] = self._lab.node(
                    identity, address=instance["PrivateIpAddress"], login=pair["PublicKey"].strip()
                )
        for instance in self.instances("shutting-down", "terminated", "stopped"):
            if instance["InstanceId"] in self._nodes:
                self._nodes[instance["InstanceId"]].kill()
