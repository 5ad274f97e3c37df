"""A search on the cluster that `ray up` makes of cluster.yaml, against an emulation of AWS (moto).

EC2's instances are machines of a lab; they have no GPU, but say so, and the trial is a synthetic one that needs none.
What the file says is followed to the letter but for the values that are YOURS, addresses inside the cloud, login, what
Ubuntu's packages are for, and the environment in which the emulation is found. Bucket and role are made as
docs/cluster.md says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.journal.log import read
from search.journal.records import TrialStatus
from search.journal.result import collect
from search.study.parse import load_study
from tests.search.cloud import Cloud, Machines, emulated
from tests.search.lab import Lab, why_not
from tests.search.laptop import ROOT, Laptop, until

BUCKET = "searches-of-a-test"
NETWORK = "172.31.0.0/16"  # of AWS's default VPC
STUDY = {
    "study": "cloud",
    "trial": {"model": {"kind": "synthetic", "seconds_per_epoch": 0.5}, "data": {"source": "synthetic"}},
    "space": {"optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}}},
    "recipes": {"plain": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.01}}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 2, "epochs": 10},
}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    with Lab(tmp_path / "lab", NETWORK, shared=False) as lab:
        yield lab


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    with emulated(lab.address) as cloud:
        yield cloud


def make_bucket_and_role(cloud: Cloud) -> None:
    """Do what docs/cluster.md says is done once: each `aws` command of it is the call of that name."""
    text = (ROOT / "docs" / "cluster.md").read_text().replace("BUCKET", BUCKET)
    (block,) = re.findall(r"^ +aws s3api create-bucket.*?\n\n", text, re.MULTILINE | re.DOTALL)
    for command in re.split(r"^ +aws ", block, flags=re.MULTILINE)[1:]:
        service, call, *options = shlex.split(command)
        arguments: dict[str, Any] = {}
        for option, value in zip(options[::2], options[1::2], strict=True):
            name = "".join(part.capitalize() for part in option.removeprefix("--").split("-"))
            pair = re.fullmatch(r"(\w+)=(\S+)", value)
            arguments[name] = dict([pair.groups()]) if pair else value
        getattr(cloud.client(service.removesuffix("api")), call.replace("-", "_"))(**arguments)


def cluster_file(cloud: Cloud) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text().replace("YOUR-BUCKET", BUCKET))
    tree["provider"]["use_internal_ips"] = True
    tree["auth"]["ssh_user"] = "root"
    image = cloud.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    for node in tree["available_node_types"].values():
        node["node_config"]["ImageId"] = image
    packages, *setup = tree["setup_commands"]
    assert packages.startswith("sudo apt-get install")
    found = " ".join(f"'export {name}={value}'" for name, value in cloud.environment.items())
    tree["setup_commands"] = [*setup, f"printf '%s\\n' {found} >> ~/resnet-search/env.sh"]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        # The nodes share this machine: each is slow to come up, and its workers must not give way to all else.
        start = "RAY_agent_register_timeout_ms=300000 RAY_worker_niceness=0 ray start"
        tree[key] = [command.replace("ray start", start) for command in tree[key]]
    return tree


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_gpu_node_comes_for_a_trial_and_nothing_stays(tmp_path: Path, lab: Lab, cloud: Cloud) -> None:
    make_bucket_and_role(cloud)
    laptop = Laptop(tmp_path / "laptop", cluster_file(cloud))
    laptop.environment |= cloud.environment
    laptop.prepare()
    ec2, s3 = cloud.client("ec2"), cloud.client("s3")
    volumes = len(ec2.describe_volumes()["Volumes"])
    with Machines(ec2, lab) as machines:
        laptop.ray("up", "--yes", "lab.yaml")
        (head,) = machines.instances("running")
        assert head["InstanceType"] == "m6i.large"
        groups = ec2.describe_security_groups(GroupIds=[group["GroupId"] for group in head["SecurityGroups"]])
        rules = [rule for group in groups["SecurityGroups"] for rule in group["IpPermissions"] if rule["IpRanges"]]
        assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]  # all else is among the nodes

        (laptop.folder / "cloud.yaml").write_text(yaml.safe_dump(STUDY))
        process, printed = laptop.start("cloud.yaml", "--concurrent", "1")
        until(lambda: len(machines.instances("running")) == 2, 300, process, printed)
        worker = machines.instances("running")[1]
        assert (worker["InstanceType"], worker.get("InstanceLifecycle")) == ("g5.xlarge", "spot")
        assert all(i["IamInstanceProfile"]["Arn"].endswith("/resnet-search") for i in (head, worker))
        until(lambda: machines.trains(worker["InstanceId"]), 600, process, printed)
        assert not machines.trains(head["InstanceId"])
        assert process.wait(600) == 0, printed.read_text()
        assert "cluster: 2 nodes with 4 CPUs and 1 GPU" in printed.read_text()

        study = laptop.folder / "runs" / "cloud"
        spec = load_study(str(study / "study.yaml"))
        assert spec.resources.gpus_per_trial == 1
        result = collect(spec, read(study / "journal"))
        assert [trial.status for trial in result.trials] == [TrialStatus.COMPLETED] * 2
        assert (study / "best_config.yaml").exists()
        kept = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        for begin in ("cloud/journal/", "cloud/checkpoints/", "cloud/best_config.yaml", "mlartifacts/"):
            assert any(key.startswith(f"resnet-search/{begin}") for key in kept), kept

        laptop.ray("down", "--yes", "lab.yaml")
        assert machines.instances("pending", "running", "stopping", "stopped") == []
        assert len(machines.instances("terminated")) == 2
        assert len(ec2.describe_volumes()["Volumes"]) == volumes
