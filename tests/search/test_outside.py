"""What comes from outside a search: signals to its group, other users, a Ray that is killed, a folder that is moved."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.journal.records import TrialStatus
from tests.search.killed_search import (
    TIMEOUT,
    begin,
    command,
    environment,
    journal_lines,
    result,
    synthetic_study,
    written,
)

SECRETS = {"MLFLOW_TRACKING_PASSWORD": "pa55-w0rd", "AWS_SECRET_ACCESS_KEY": "5ecret-of-aws"}
STRANGER = """
import ray
ray.init({address!r}, logging_level="CRITICAL")
print("inside", ray.get(ray.remote(lambda: open({mark!r}, "w").write("x")).remote()))
"""


def slow_study(folder: Path, trials: int = 2, epochs: int = 30) -> Path:
    """Trials that take a second an epoch."""
    tree = synthetic_study("asha", trials=trials, epochs=epochs)
    tree["scheduler"] = {"kind": "none"}
    tree["trial"]["model"] |= {"seconds_per_epoch": 1.0, "diverge_above": 10.0}
    return written(tree, folder)


def descendants(process: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [process]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def listening(processes: list[int]) -> Iterator[str]:
    """The addresses, in the kernel's hexadecimal digits, on which these processes accept connections."""
    sockets = {
        os.readlink(link) for pid in processes for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()
    }
    for line in [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A" and f"socket:[{inode}]" in sockets:
            yield local


def named(processes: list[int], name: str) -> int:
    return next(pid for pid in processes if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_search_is_for_its_user_alone_and_a_signal_to_all_of_it_saves_its_trials(tmp_path: Path) -> None:
    study, home, out = slow_study(tmp_path / "study"), tmp_path / "home", tmp_path / "out"
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray" / "auth_token"
    token.write_text("f" * 64)  # as Ray by itself leaves it: everybody may read it
    variables = SECRETS | {"HOME": str(home), "http_proxy": "http://127.0.0.1:9", "RESNET_SEARCH_CACHE": str(tmp_path)}
    process = begin(study, out, 6, **variables)
    below = descendants(process.pid)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert {address.partition(":")[0] for address in listening([process.pid, *below])} <= {
        "0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000",
    }  # fmt: skip
    known = {pid: Path(f"/proc/{pid}/environ").read_text() for pid in below}
    assert not any(SECRETS["MLFLOW_TRACKING_PASSWORD"] in text for text in known.values())
    gcs = Path(f"/proc/{named(below, 'gcs_server')}/cmdline").read_text().split("\0")
    folder = next(Path(word.partition("=")[2]) for word in gcs if word.startswith("--session-dir="))
    ours = folder.parent.parent
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    logs = [path.read_text(errors="replace") for path in ours.rglob("*") if path.is_file()]
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in below]
    assert not [text for text in logs + lines for secret in SECRETS.values() if secret in text]

    for pid in [process.pid, *below]:
        os.kill(pid, signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "interrupted: finished work is saved, 2 trials wait" in printed
    assert not ours.exists()
    assert not (out / "killed" / "ray").exists()
    saved = result(out).trials[0].last_epoch
    assert len(list((out / "killed").glob("checkpoints/trial-0000/leg-01/*"))) == 1
    process = begin(study, out, 3, **variables)  # the trials go on where they were
    os.killpg(os.getpgid(process.pid), 0)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 130
    assert result(out).trials[0].leg == 2
    assert result(out).trials[0].last_epoch >= saved


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="becomes another user, which root may")
def test_another_user_of_the_machine_cannot_use_the_search_s_ray(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    process = begin(slow_study(tmp_path / "study"), tmp_path / "out", 4)
    try:
        gcs = named(descendants(process.pid), "gcs_server")
        port = next(local.partition(":")[2] for local in listening([gcs]))
        address = f"127.0.0.1:{int(port, 16)}"
        with socket.create_connection(("127.0.0.1", int(port, 16)), timeout=5):
            pass  # it is there
        mark = tmp_path / "mark"
        caps = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # to read the packages, not the token
        code = STRANGER.format(address=address, mark=str(mark))
        stranger = subprocess.Popen(
            ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", *caps, sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"], "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):  # Ray asks again and again
            stranger.wait(45)
        stranger.kill()
        assert "inside" not in stranger.communicate()[0]
        assert not mark.exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_ray_that_is_killed_ends_the_search_with_a_line_and_the_way_on(tmp_path: Path, name: str) -> None:
    study = slow_study(tmp_path / "study")
    process = begin(study, tmp_path / "out", 6)
    os.kill(named(descendants(process.pid), name), signal.SIGKILL)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in printed
    assert "Ray" in printed
    assert f"search.run {tmp_path}/out/killed/study.yaml --out {tmp_path}/out" in " ".join(printed.split())
    assert journal_lines(tmp_path / "out" / "killed") >= 6


@pytest.mark.slow
def test_a_results_folder_that_is_moved_away_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    study, out, there = slow_study(tmp_path / "study"), tmp_path / "out", tmp_path / "there"
    process = begin(study, out, 6)
    out.rename(there)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in printed
    assert "out/killed is gone" in printed
    assert not (out / "killed" / "journal").exists()
    assert [trial.status for trial in result(there).trials] == [TrialStatus.PENDING] * 2


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_it_silently_and_a_signal_before_the_start_interrupts(tmp_path: Path) -> None:
    study, out = slow_study(tmp_path / "study", trials=40, epochs=2), tmp_path / "out"
    words = " ".join(command(study, out))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} | head -n 1"], env=environment(), capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")
    assert "40 trials of at most 2 epochs" in done.stdout
    assert {trial.status for trial in result(out).trials} <= {TrialStatus.PENDING, TrialStatus.COMPLETED}
    assert len(result(out).trials) < 40
    for seconds, number in ((1.5, signal.SIGTERM), (4.0, signal.SIGINT), (7.0, signal.SIGTERM)):
        process = subprocess.Popen(
            command(study, tmp_path / "early"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        time.sleep(seconds)
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130, printed
        assert "interrupted" in printed
        assert "Traceback" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.8, 1.2, 1.6, 2.0])  # Ray takes about two to start
def test_a_signal_while_ray_starts_interrupts_when_it_has_started(tmp_path: Path, seconds: float) -> None:
    study = slow_study(tmp_path / "study", trials=40, epochs=2)
    process = subprocess.Popen(
        command(study, tmp_path / "out"), env=environment() | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "40 trials of" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "interrupted" in printed


@pytest.mark.slow
def test_a_search_in_which_every_trial_diverged_exits_with_1_and_says_so(tmp_path: Path) -> None:
    tree = synthetic_study("asha", trials=2, epochs=2)
    tree["trial"]["model"]["diverge_above"] = 1e-9
    done = subprocess.run(
        command(written(tree, tmp_path / "study"), tmp_path / "out"), env=environment(), capture_output=True,
        text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "every trial failed or diverged, so there is no best config" in done.stdout


@pytest.mark.slow
def test_the_same_images_under_another_path_continue_a_study_and_others_do_not(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "here" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draws.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "here" / name / f"{number}.png")
    tree = {
        "study": "killed",
        "trial": {"model": {"kind": "cifar_resnet", "depth": 8}, "data": {"resolution": 16}, "batch_size": 8},
        "space": {"optimizer": {"lr": {"float": [0.01, 0.1], "log": True}}},
        "scheduler": {"kind": "none"},
        "budget": {"trials": 2, "epochs": 400},
        "resources": {"concurrent": 1, "checkpoint_minutes": 0.01},
    }
    study, out, there = written(tree, tmp_path / "study"), tmp_path / "out", tmp_path / "there"
    process = begin(study, out, 8, "--data", f"imagefolder:{tmp_path}/here")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    before = result(out).trials[0]
    (tmp_path / "here").rename(there)
    process = begin(study, out, 4, "--data", f"imagefolder:{there}")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    after = result(out).trials[0]
    assert after.last_epoch > before.last_epoch
    assert [epoch.epoch for epoch in after.history] == list(range(1, after.last_epoch + 1))
    assert "earlier checkpoint" not in printed
    shutil.copytree(there, tmp_path / "others")
    next((tmp_path / "others" / "cat").iterdir()).unlink()
    done = subprocess.run(
        command(study, out, "--data", f"imagefolder:{tmp_path}/others"), env=environment(), capture_output=True,
        text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"must hold the images of imagefolder:{there}" in done.stderr
