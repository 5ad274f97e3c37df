"""The cluster files: Ray takes them, and the one for own machines and the one for Kubernetes are cluster.yaml again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.storage.remote import VARIABLE
from search.ui import THERE

ROOT = Path(__file__).parents[1]
AWS, ONPREM = ROOT / "cluster.yaml", ROOT / "deploy" / "onprem.yaml"
KUBERAY, IMAGE = ROOT / "deploy" / "kuberay.yaml", ROOT / "deploy" / "Dockerfile"
COMMANDS = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
# What only one of the two needs; the file says why.
AWS_ONLY = ("sudo apt-get install",)
ONPREM_ONLY = ("test -w /mnt",)
AUTOSCALER = "export RAY_enable_autoscaler_v2=0; "


def read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    return tree


def kuberay() -> dict[str, Any]:
    _, job = yaml.safe_load_all(KUBERAY.read_text())
    return dict(job["spec"])


def pinned(package: str) -> str:
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())[package]


def exports(config: dict[str, Any]) -> dict[str, str]:
    """The environment that the set-up commands write, on the head."""
    commands = " ".join(config["setup_commands"] + config["head_setup_commands"])
    return dict(re.findall(r"'export (\w+)=([^']*)'", commands))


def placed(config: dict[str, Any], command: str) -> str:
    """The command, but for where searches are stored."""
    return command.replace(exports(config)[VARIABLE], "STORAGE")


@pytest.mark.parametrize("path", [AWS, ONPREM], ids=lambda path: path.name)
def test_ray_takes_the_file(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(read(path))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("key", COMMANDS)
def test_own_machines_are_set_up_and_started_as_those_of_aws(key: str) -> None:
    aws = [placed(read(AWS), command) for command in read(AWS)[key] if not command.startswith(AWS_ONLY)]
    own = [
        placed(read(ONPREM), command.replace(AUTOSCALER, ""))
        for command in read(ONPREM)[key]
        if not command.startswith(ONPREM_ONLY)
    ]
    assert own == aws
    assert read(ONPREM)["file_mounts"] == read(AWS)["file_mounts"]


def test_searches_are_stored_where_every_node_reaches_them() -> None:
    shared = exports(read(ONPREM))[VARIABLE]
    assert any(command.startswith(f"test -w {shared} ") for command in read(ONPREM)["setup_commands"])
    assert exports(read(AWS))[VARIABLE].startswith("s3://")
    types = read(AWS)["available_node_types"].values()
    assert {node["node_config"]["IamInstanceProfile"]["Name"] for node in types} == {"resnet-search"}


def test_the_head_of_aws_trains_nothing_and_gpu_nodes_start_from_none() -> None:
    config = read(AWS)
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    workers = {name: node for name, node in types.items() if name != config["head_node_type"]}
    assert all(node["min_workers"] == 0 and node["resources"]["GPU"] == 1 for node in workers.values())
    spot = {name for name, node in workers.items() if "InstanceMarketOptions" in node["node_config"]}
    assert spot == {"gpu_spot"}
    assert workers["gpu_spot"]["priority"] > workers["gpu_on_demand"].get("priority", 0)


def test_kubernetes_has_the_same_versions_set_up_and_environment() -> None:
    spec, image = kuberay()["rayClusterSpec"], IMAGE.read_text()
    assert spec["rayVersion"] == pinned("ray")
    assert f"rayproject/ray:{pinned('ray')}-py311" in image
    install = next(command for command in read(AWS)["setup_commands"] if "--constraint" in command)
    assert install.replace("~/", "/home/ray/") in re.sub(r"\s*\\\n\s*", " ", image)
    containers = {
        container["name"]: container
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    here = {variable["name"]: variable["value"] for variable in containers["ray-head"]["env"]}
    there = {name: value.replace("$HOME", "/home/ray") for name, value in exports(read(ONPREM)).items()}
    for elsewhere in ("PATH", "RAY_ADDRESS", "RESNET_SEARCH_CLUSTER"):  # the image; RayJob; a cluster of fixed size
        del there[elsewhere]
    assert here == there
    assert containers["ray-worker"]["env"] == containers["ray-head"]["env"]
    mlflow = next(command for command in read(AWS)["head_start_ray_commands"] if "mlflow server" in command)
    server = containers["mlflow"]["args"][0].partition("&& ")[2]
    assert server in mlflow
    own = {variable["name"]: variable["value"] for variable in containers["mlflow"]["env"]}
    assert own.pop(VARIABLE) == here[VARIABLE]
    assert all(f"{name}={value} " in mlflow for name, value in own.items())
    assert all(mount["mountPath"] == here[VARIABLE] for c in containers.values() for mount in c["volumeMounts"])


def test_kubernetes_has_the_same_ports_and_token() -> None:
    spec = kuberay()["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": exports(read(AWS))["RAY_AUTH_MODE"]}
    started = next(command for command in read(AWS)["head_start_ray_commands"] if "ray start" in command)
    head = spec["headGroupSpec"]["rayStartParams"]
    for option in ("port", "object-manager-port", "dashboard-port"):
        assert f"--{option}={head[option]}" in started
    assert head["num-cpus"] == str(read(AWS)["available_node_types"]["head"]["resources"]["CPU"])
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


@pytest.mark.parametrize("path", [AWS, ONPREM], ids=lambda path: path.name)
def test_what_has_no_password_listens_on_the_loopback_alone(path: Path) -> None:
    commands = " ".join(read(path)["head_start_ray_commands"])
    assert re.findall(r"--(?:dashboard-)?host[ =](\S+)", commands) == ["127.0.0.1", "127.0.0.1"]
    assert f"--port {THERE}" in commands
    assert exports(read(path))["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{THERE}"
    assert exports(read(path))["RAY_AUTH_MODE"] == "token"
    assert all(". ~/resnet-search/env.sh;" in command for command in _ray(read(path)))


def _ray(config: dict[str, Any]) -> list[str]:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def test_every_package_that_a_node_installs_is_pinned() -> None:
    from importlib.metadata import distribution, requires

    def needed(package: str, extra: str = "") -> set[str]:
        from packaging.requirements import Requirement

        found = set()
        for text in requires(package) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.add(requirement.name)
        return found

    lines = (ROOT / "constraints.txt").read_text().split()
    names = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    for package in needed("ray", "default") | needed("resnet-search") | {"boto3", "botocore"}:
        assert re.sub(r"[-_.]+", "-", distribution(package).name).lower() in names


def steps(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile and what is behind them, without comments and with joined lines."""
    text = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE))
    for line in text.splitlines():
        instruction, _, rest = line.partition(" ")
        yield instruction, rest


@pytest.mark.network
@pytest.mark.timeout(3600)
def test_the_steps_of_the_image_make_a_program_that_searches(tmp_path: Path) -> None:
    """As `docker build` takes them, with an empty /home and this Python: COPY is done by root, RUN by the user ray."""
    if os.getuid() != 0 or sys.version_info[:2] != (3, 11):
        pytest.skip("needs root, to give files to two users, and Python 3.11, as the image has it")
    wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "dist", ROOT)
    subprocess.run(wheel, check=True)
    shutil.copy(ROOT / "constraints.txt", tmp_path / "dist")
    (tmp_path / "home" / "ray").mkdir(parents=True)
    shutil.chown(tmp_path / "home" / "ray", 1000, 100)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_", "MLFLOW_"))}
    variables = own | {"HOME": "/home/ray", "PATH": "/mnt/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/mnt/lib"}
    mounts = f"mount --bind {tmp_path / 'home'} /home && mount --bind {sys.base_prefix} /mnt"

    def run(command: str) -> str:
        as_ray = 'exec setpriv --reuid=1000 --regid=100 --clear-groups /bin/bash -c "cd /home/ray && $0"'
        done = subprocess.run(
            ["unshare", "--mount", "/bin/bash", "-c", f"{mounts} && {as_ray}", command], env=variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for instruction, rest in steps(IMAGE):
        match instruction:
            case "COPY":
                source, target = rest.split()
                shutil.copytree(tmp_path / source, tmp_path / target.removeprefix("/"))
            case "RUN":
                run(rest)
            case "ENV":
                name, _, value = rest.partition("=")
                variables[name] = value.replace("$PATH", variables["PATH"])
            case _:
                assert instruction == "FROM"
    printed = run("resnet-search run synthetic --trials 2 --epochs 2")
    assert "best config: runs/synthetic/best_config.yaml" in printed
