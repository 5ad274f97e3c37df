"""Everything a user can get wrong is told in a line, with exit code 2, before any trial starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STUDY = """
study: mine
trial: {model: {kind: cifar_resnet, depth: 8}, data: {source: digits}}
space: {optimizer: {lr: {float: [0.01, 0.5], log: true}}}
budget: {trials: 4, epochs: 2}
scheduler: {kind: none}
"""


def search(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, "-m", "search.run", *arguments],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env=known | {"RESNET_SEARCH_CACHE": str(tmp_path / "cache")} | environment,
    )  # fmt: skip


def refused(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """The message of a refused search; no trial was begun, and nothing but the message printed."""
    done = search(tmp_path, *arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 3, done.stderr
    assert all(line.startswith("error: ") for line in lines)
    assert not list(tmp_path.glob("**/journal/*.jsonl"))
    return done.stderr


def study(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_unknown_study(tmp_path: Path) -> None:
    assert "did you mean `digits_resnet8`" in refused(tmp_path, "digits_resnet9")


def test_missing_study_file(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path, "absent.yaml")


def test_misspelt_key(tmp_path: Path) -> None:
    message = refused(tmp_path, study(tmp_path, STUDY.replace("budget:", "buget:")))
    assert "did you mean `budget`" in message


def test_misspelt_key_in_the_space(tmp_path: Path) -> None:
    assert "did you mean `lr`" in refused(tmp_path, study(tmp_path, STUDY.replace("{lr:", "{lrr:")))


def test_misspelt_option_of_set(tmp_path: Path) -> None:
    message = refused(tmp_path, "digits_resnet8", "--set", "data.train_sample=5")
    assert "--set data.train_sample" in message
    assert "`train_samples`" in message or "`data.train_samples`" in message


def test_wrong_type(tmp_path: Path) -> None:
    assert "budget.trials" in refused(tmp_path, study(tmp_path, STUDY.replace("trials: 4", "trials: many")))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (
            "lr: {loguniform: [0.01, 0.5]}",
            "write {float: [0.01, 0.5], log: true}; what is searched is one of float, int",
        ),
        ("lr: {min: 0.01, max: 0.5}", "write {float: [0.01, 0.5]}"),
        ("learning_rate: {float: [0.01, 0.5]}", "did you mean `optimizer.lr`"),
    ],
)
def test_words_of_other_tools(tmp_path: Path, written: str, words: str) -> None:
    assert words in refused(tmp_path, study(tmp_path, STUDY.replace("lr: {float: [0.01, 0.5], log: true}", written)))


def test_batches_of_one_image_that_batch_norm_cannot_train_on(tmp_path: Path) -> None:
    text = STUDY.replace("kind: cifar_resnet, depth: 8", "kind: torchvision_resnet, depth: 18")
    text = text.replace("{optimizer:", "{batch_size: {choice: [8, 1]}, optimizer:")
    message = refused(tmp_path, study(tmp_path, text))
    assert "batch_size: must be at least 2, or use model.norm: group, or data.resolution above 32" in message
    assert "(batch_size 1)" in message


def test_range_upside_down(tmp_path: Path) -> None:
    assert "optimizer.lr" in refused(tmp_path, study(tmp_path, STUDY.replace("[0.01, 0.5]", "[0.5, 0.01]")))


def test_several_mistakes_at_once(tmp_path: Path) -> None:
    text = STUDY.replace("[0.01, 0.5]", "[0.5, 0.01]").replace("trials: 4", "trials: 0").replace("depth: 8", "depth: 9")
    message = refused(tmp_path, study(tmp_path, text))
    assert all(path in message for path in ("optimizer.lr", "budget.trials", "model.depth"))


@pytest.mark.parametrize("kind", ["imagefolder", "parquet"])
def test_missing_data_path(tmp_path: Path, kind: str) -> None:
    message = refused(tmp_path, "cifar10_resnet20", "--data", f"{kind}:{tmp_path}/absent")
    assert f"{tmp_path}/absent" in message


def test_no_data_given(tmp_path: Path) -> None:
    assert "--data imagefolder:PATH" in refused(tmp_path, "imagefolder_resnet50")


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(tmp_path, "cifar10_resnet20", "--data", f"imagefolder:{tmp_path}/empty")


def test_corrupt_image(tmp_path: Path) -> None:
    for name in ("ants", "bees"):
        pictures(tmp_path / "pictures" / name, 20)
    victim = tmp_path / "pictures" / "bees" / "7.png"
    victim.write_bytes(victim.read_bytes()[:50])
    message = refused(tmp_path, "cifar10_resnet20", "--data", f"imagefolder:{tmp_path}/pictures")
    assert "7.png" in message
    assert "on_corrupt" in message


def test_one_class_only(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures" / "ants", 20)
    message = refused(tmp_path, "cifar10_resnet20", "--data", f"imagefolder:{tmp_path}/pictures")
    assert "class" in message


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    message = refused(tmp_path, "digits_resnet8", "--set", f"model.pretrained={tmp_path}/absent.pt")
    assert "absent.pt" in message


def test_weights_that_cannot_be_downloaded(tmp_path: Path) -> None:
    for name in ("ants", "bees"):
        pictures(tmp_path / "pictures" / name, 20)
    message = refused(
        tmp_path, "imagefolder_resnet50", "--data", f"imagefolder:{tmp_path}/pictures",
        TORCH_HOME=str(tmp_path / "torch"), https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9",
    )  # fmt: skip
    assert "model.pretrained" in message


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--out" in refused(tmp_path, "digits_resnet8", "--out", str(tmp_path / "file"))


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_mlflow_server_that_is_not_there(tmp_path: Path) -> None:
    message = refused(tmp_path, "digits_resnet8", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "--tracking-later" in message


def test_mlflow_server_that_does_not_answer(tmp_path: Path, silent_server: int) -> None:
    message = refused(tmp_path, "digits_resnet8", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{silent_server}")
    assert "--tracking-later" in message


def test_hostile_yaml(tmp_path: Path) -> None:
    hostile = f"study: !!python/object/apply:os.mkdir ['{tmp_path}/ran']\n"
    assert "plain YAML" in refused(tmp_path, study(tmp_path, hostile))
    assert not (tmp_path / "ran").exists()


def test_more_than_the_machine_has(tmp_path: Path) -> None:
    assert "--cpus-per-trial" in refused(tmp_path, "digits_resnet8", "--cpus-per-trial", "4096")


def test_money_without_prices_and_prices_without_this_machine(tmp_path: Path) -> None:
    assert "--price 0.4 for each node" in refused(tmp_path, "digits_resnet8", "--max-cost", "20")
    assert "--price node=X" in refused(tmp_path, "digits_resnet8", "--max-cost", "20", "--price", "gpu_spot=0.4")


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    message = refused(tmp_path, "digits_resnet8", "--set", "execution.device=cuda", CUDA_VISIBLE_DEVICES="")
    assert "device" in message
