"""Everything a user can get wrong is told in a line, with exit code 2, before any trial starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.run import run
from tests.conftest import Typed

STUDY = """
study: mine
trial: {model: {kind: cifar_resnet, depth: 8}, data: {source: digits}}
space: {optimizer: {lr: {float: [0.01, 0.5], log: true}}}
budget: {trials: 4, epochs: 2}
scheduler: {kind: none}
"""

Refused = Callable[..., str]


def checked(code: int, out: str, error: str, folder: Path) -> str:
    """The message of a refused search; no trial was begun, and nothing but the message printed."""
    assert code == 2, out + error
    lines = error.strip().splitlines()
    assert 1 <= len(lines) <= 3, error
    assert all(line.startswith("error: ") for line in lines)
    assert not list(folder.glob("**/journal/*.jsonl"))
    return error


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed) -> Refused:
    """The message of `search.run` with these arguments and environment variables."""

    def refusal(*arguments: str, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return checked(*typed(run, *arguments), tmp_path)

    return refusal


def study(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = STUDY
    for old, new in changes:
        text = text.replace(old, new)
    (tmp_path / "mine.yaml").write_text(text)
    return "mine.yaml"


def pictures(folder: Path, *classes: str) -> str:
    for name in classes:
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")
    return f"imagefolder:{folder}/pictures"


def test_a_process_ends_with_code_2_and_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "search.run", "digits_resnet9"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "did you mean `digits_resnet8`" in checked(done.returncode, done.stdout, done.stderr, tmp_path)


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
def test_words_of_other_tools(tmp_path: Path, refused: Refused, written: str, words: str) -> None:
    assert words in refused(study(tmp_path, ("lr: {float: [0.01, 0.5], log: true}", written)))


def test_batches_of_one_image_that_batch_norm_cannot_train_on(tmp_path: Path, refused: Refused) -> None:
    network = ("kind: cifar_resnet, depth: 8", "kind: torchvision_resnet, depth: 18")
    message = refused(study(tmp_path, network, ("{optimizer:", "{batch_size: {choice: [8, 1]}, optimizer:")))
    assert "batch_size: must be at least 2, or use model.norm: group, or data.resolution above 32" in message
    assert "(batch_size 1)" in message


def test_several_mistakes_at_once(tmp_path: Path, refused: Refused) -> None:
    changes = (("[0.01, 0.5]", "[0.5, 0.01]"), ("trials: 4", "trials: 0"), ("depth: 8", "depth: 9"))
    message = refused(study(tmp_path, *changes))
    assert all(path in message for path in ("optimizer.lr", "budget.trials", "model.depth"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("absent.yaml", "No such file"),
        ("digits_resnet8 --set data.train_sample=5", "--set data.train_sample"),
        ("cifar10_resnet20 --data imagefolder:absent/images", "absent/images"),
        ("cifar10_resnet20 --data parquet:absent/images", "absent/images"),
        ("cifar10_resnet20 --data imagefolder:.", "imagefolder:"),
        ("imagefolder_resnet50", "--data imagefolder:PATH"),
        ("digits_resnet8 --set model.pretrained=absent.pt", "absent.pt"),
        ("digits_resnet8 --out file", "--out"),
        ("digits_resnet8 --cpus-per-trial 4096", "--cpus-per-trial"),
        ("digits_resnet8 --max-cost 20", "--price 0.4 for each node"),
        ("digits_resnet8 --max-cost 20 --price gpu_spot=0.4", "--price node=X"),
    ],
)
def test_an_argument_that_cannot_be_used(tmp_path: Path, refused: Refused, arguments: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    assert words in refused(*arguments.split())


@pytest.mark.parametrize(
    ("folders", "named"), [(("cat", "dog", "Test"), "Test/"), (("train/cat", "train/dog", "val"), "val/0.png")]
)
def test_data_that_are_not_understood(tmp_path: Path, refused: Refused, folders: tuple[str, ...], named: str) -> None:
    message = refused("cifar10_resnet20", "--data", pictures(tmp_path, *folders))
    assert named in message
    assert message.count("\n") == 1


def test_a_corrupt_image(tmp_path: Path, refused: Refused) -> None:
    data = pictures(tmp_path, "ants", "bees")
    victim = tmp_path / "pictures" / "bees" / "7.png"
    victim.write_bytes(victim.read_bytes()[:50])
    message = refused("cifar10_resnet20", "--data", data)
    assert "7.png" in message
    assert "on_corrupt" in message


def test_one_class_only(tmp_path: Path, refused: Refused) -> None:
    assert "class" in refused("cifar10_resnet20", "--data", pictures(tmp_path, "ants"))


def test_weights_that_cannot_be_downloaded(tmp_path: Path, refused: Refused) -> None:
    proxy, data = "http://127.0.0.1:9", pictures(tmp_path, "ants", "bees")
    environment = {"TORCH_HOME": str(tmp_path / "torch"), "https_proxy": proxy, "HTTPS_PROXY": proxy}
    assert "model.pretrained" in refused("imagefolder_resnet50", "--data", data, **environment)


def test_an_mlflow_server_that_is_not_there_or_does_not_answer(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            assert "--tracking-later" in refused("digits_resnet8", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")


def test_hostile_yaml(tmp_path: Path, refused: Refused) -> None:
    hostile = f"!!python/object/apply:os.mkdir ['{tmp_path}/ran']"
    assert "plain YAML" in refused(study(tmp_path, ("study: mine", f"study: {hostile}")))
    assert not (tmp_path / "ran").exists()


def test_a_gpu_that_is_not_there(refused: Refused) -> None:
    assert "device" in refused("digits_resnet8", "--set", "execution.device=cuda", CUDA_VISIBLE_DEVICES="")
