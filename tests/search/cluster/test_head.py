from __future__ import annotations

import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cluster.fetch import contains
from search.cluster.head import find_head
from search.study.parse import load_study
from search.study.smoke import shrink
from search.ui import ui
from trainables.config import ConfigError

ROOT = Path(__file__).parents[3]


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        find_head(path)
    (problem,) = error.value.problems
    assert problem.path == "--cluster"
    return str(problem)


def test_what_is_no_cluster_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.yaml")
    for text in ("a: [", "just text", "study: mine\n"):
        (tmp_path / "c.yaml").write_text(text)
        assert "must be" in refused(tmp_path / "c.yaml")


def test_a_cluster_that_is_not_up_is_refused_with_the_command_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    config = yaml.safe_load((ROOT / "deploy" / "onprem.yaml").read_text())
    path = tmp_path / "my cluster.yaml"
    path.write_text(yaml.safe_dump(config | {"cluster_name": "never-up"}))
    message = refused(path)
    assert "Head node of cluster (never-up) not found" in message
    assert f": ray up '{path}'" in message
    assert not any(capfd.readouterr())  # what Ray prints is not shown


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("RAY_TMPDIR", "/tmp/a/path/that/is/too/long/for/sockets", "at most [23]. bytes"),  # noqa: S108 (not made)
        ("RAY_ADDRESS", "127.0.0.1:9", "must be a cluster that answers"),
    ],
)
def test_what_ray_cannot_use_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    from search.tune.connection import connect

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}: .*{rule}"):
        connect()


def test_aws_grows_to_as_many_gpus_as_its_file_allows() -> None:
    from search.tune.nodes import at_most

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert at_most(config) == {"CPU": 32.0, "GPU": 8.0}
    assert at_most(config | {"max_workers": 3}) == {"CPU": 12.0, "GPU": 3.0}
    assert at_most(config | {"max_workers": 10}) == {"CPU": 40.0, "GPU": 10.0}
    assert at_most(config | {"max_workers": 20}) == {"CPU": 40.0, "GPU": 10.0}


@pytest.mark.parametrize("name", ["cifar10_resnet50_transfer", "digits_resnet8"])
def test_the_head_does_not_shrink_a_smoke_study_again(name: str) -> None:
    small = shrink(load_study(name))
    assert shrink(small).dump() == small.dump()


def ray_node(label: str | None = None, head: bool = False) -> dict[str, Any]:
    """An entry of `ray.nodes()`."""
    labels = {"ray.io/node-id": "a1"} | ({} if label is None else {"ray.io/node-group": label})
    return {"Labels": labels, "Resources": {"CPU": 1.0} | ({"node:__internal_head__": 1.0} if head else {})}


def test_a_node_is_of_the_type_that_its_label_names_or_its_file_leaves() -> None:
    from search.tune.nodes import NodeWatch, node_type

    assert NodeWatch().types == {"node": 1}  # this machine, without a cluster
    aws = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    local = {"head_node_type": "local.cluster.node", "available_node_types": {"local.cluster.node": {"max_workers": 2}}}
    assert node_type(ray_node("gpu_spot"), aws) == node_type(ray_node("gpu_spot"), None) == "gpu_spot"
    assert node_type(ray_node(head=True), aws) == "head"
    assert node_type(ray_node(), aws) == "node"  # spot or on demand?
    types = {name: t for name, t in aws["available_node_types"].items() if name != "gpu_on_demand"}
    assert node_type(ray_node(), aws | {"available_node_types": types}) == "gpu_spot"
    assert {node_type(ray_node(head=head), local) for head in (True, False)} == {"local.cluster.node"}
    assert node_type(ray_node(head=True), None) == "node"


def journal(folder: Path, *segments: str) -> Path:
    (folder / "journal").mkdir(parents=True)
    for number, text in enumerate(segments, 1):
        (folder / "journal" / f"{number:06d}.jsonl").write_text(text)
    return folder


def test_only_an_earlier_copy_of_the_same_search_is_replaced(tmp_path: Path) -> None:
    copy = journal(tmp_path / "copy", "a\nb\n", "c\n")
    assert contains(copy, tmp_path / "nothing here")
    assert contains(copy, journal(tmp_path / "same", "a\nb\n", "c\n"))
    assert contains(copy, journal(tmp_path / "earlier", "a\n"))
    assert not contains(copy, journal(tmp_path / "another", "x\n"))
    assert not contains(copy, journal(tmp_path / "further", "a\nb\n", "c\nd\n"))
    assert not contains(copy, journal(tmp_path / "one session more", "a\nb\n", "c\n", "d\n"))


def test_mlflow_is_not_opened_where_there_is_nothing_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="no MLflow database yet"):
        ui("digits_resnet8", cluster=None, out=tmp_path, port=None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    ui("digits_resnet8", cluster=None, out=tmp_path, port=None)
    assert capsys.readouterr().out == "digits_resnet8: open http://127.0.0.1:1\n"


def test_a_port_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port: must be free.*{port}"):
            ui("digits_resnet8", cluster=None, out=tmp_path, port=port)
