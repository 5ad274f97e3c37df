"""The store is built once, completely or not at all, whoever asks and whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trainables.image_files import picture, python
from trainables.config import ConfigError, Data
from trainables.data.arrow import read_pixels
from trainables.data.store import PreparedData, default_cache, prepare, request

PREPARE = """
import logging, sys
from pathlib import Path
from trainables.config import ConfigError, Data
from trainables.data.store import prepare
logging.basicConfig(level=logging.INFO, format="%(message)s")
try:
    print(prepare(Data(source=sys.argv[1]), Path(sys.argv[2])).model_dump_json())
except ConfigError as error:
    sys.exit(str(error))
"""

SPLITS = ("train", "val", "test")


def listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def remains(cache: Path) -> list[Path]:
    return sorted(cache.glob("tmp-*"))


def all_pixels(store: PreparedData) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for split in SPLITS:
        pixels = read_pixels(store.directory / f"{split}.arrow")
        assert pixels is not None
        found.update({image.tobytes(): split for image in pixels})
    return found


def test_the_second_call_reads_no_image_and_writes_nothing(pets: str, tmp_path: Path) -> None:
    data = Data(source=f"imagefolder:{shutil.copytree(pets.removeprefix('imagefolder:'), tmp_path / 'data')}")
    store = prepare(data, tmp_path / "cache")
    before = listing(tmp_path / "cache")
    for path in (tmp_path / "data").rglob("*.png"):  # damaged behind its back: same size, same time
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prepare(data, tmp_path / "cache") == store
    assert listing(tmp_path / "cache") == before


def test_a_changed_file_makes_a_new_store_and_the_old_one_stays(pets: str, tmp_path: Path) -> None:
    data = Data(source=f"imagefolder:{shutil.copytree(pets.removeprefix('imagefolder:'), tmp_path / 'data')}")
    old = prepare(data, tmp_path / "cache")
    picture(5000).save(tmp_path / "data/ant/0000.png")
    new = prepare(data, tmp_path / "cache")
    assert new.fingerprint != old.fingerprint
    assert old.directory.is_dir()


def test_the_fingerprint_is_of_the_content_wherever_it_lies(pets: str, tmp_path: Path) -> None:
    copy = shutil.copytree(pets.removeprefix("imagefolder:"), tmp_path / "copy")
    os.utime(copy / "ant/0000.png", (1, 1))
    here = prepare(Data(source=pets), tmp_path / "cache")
    there = prepare(Data(source=f"imagefolder:{copy}"), tmp_path / "cache")
    elsewhere = prepare(Data(source=pets), tmp_path / "cache 2")
    assert here == there
    assert elsewhere.fingerprint == here.fingerprint
    (copy / "ant/0000.png").rename(copy / "bee/9999.png")  # the same image under another label
    assert prepare(Data(source=f"imagefolder:{copy}"), tmp_path / "cache").fingerprint != here.fingerprint


@pytest.mark.parametrize(
    ("source", "fingerprint"),
    [
        ("digits", "9b5204da6097330601f50061b8d57b6e"),
        ("synthetic", "3f3c7b9322e47b46886974bc74e6fe5a"),
        ("imagefolder:{data_dir}/hymenoptera", "730ace8751edca2e7333526a0290cbf1"),
    ],
)
def test_data_of_earlier_studies_are_the_same(
    source: str, fingerprint: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "{" in source:
        source = source.format(data_dir=request.getfixturevalue("data_dir"))
    assert prepare(Data(source=source), tmp_path).fingerprint == fingerprint


def test_a_store_of_an_older_version_is_described_when_it_is_met_again(pets: str, tmp_path: Path) -> None:
    store = prepare(Data(source=pets), tmp_path)
    record = store.directory / "meta.json"
    older = {key: value for key, value in json.loads(record.read_text()).items() if key != "description"}
    record.write_text(json.dumps(older))
    assert prepare(Data(source=pets), tmp_path) == store  # what was asked for was written down
    shutil.rmtree(tmp_path / "keys")
    assert prepare(Data(source=pets), tmp_path) == store
    assert json.loads(record.read_text())["description"] == list(store.description)


def test_only_what_changes_the_split_changes_the_fingerprint(pets: str, tmp_path: Path) -> None:
    base = prepare(Data(source=pets), tmp_path).fingerprint
    for change in ({"split_seed": 1}, {"val_fraction": 0.2}, {"test_fraction": 0.3}):
        assert prepare(Data.model_validate({"source": pets, **change}), tmp_path).fingerprint != base
    for same in ({"resolution": 64}, {"train_samples": 10}, {"val_samples": 4}, {"on_corrupt": "skip"}):
        assert prepare(Data.model_validate({"source": pets, **same}), tmp_path).fingerprint == base


def test_folds_have_stores_of_their_own_and_the_same_test_split(pets: str, tmp_path: Path) -> None:
    plain = prepare(Data(source=pets), tmp_path)
    asked: list[dict[str, int]] = [{"folds": 3}, {"folds": 3, "fold": 2}, {"folds": 3, "repeat": 1}, {"folds": 4}]
    stores = [prepare(Data.model_validate({"source": pets, **folds}), tmp_path) for folds in asked]
    assert len({store.fingerprint for store in (plain, *stores)}) == 5
    held_out = {(store.directory / "test.arrow").read_bytes() for store in (plain, *stores)}
    assert len(held_out) == 1
    assert prepare(Data(source=pets), tmp_path) == plain


def test_requests_of_earlier_studies_are_the_same() -> None:
    assert request(Data(source="digits")) == ("digits", 0.1, 0.15, 0, "error", None, None)


def test_processes_and_cores_do_not_change_the_store(snaps: str, tmp_path: Path) -> None:
    one_core = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})\n{PREPARE}"
    found = set()
    for i, code in enumerate((PREPARE, one_core)):
        cache = tmp_path / str(i)
        process = python(code, snaps, cache, env={**os.environ, "PYTHONHASHSEED": str(i)})
        out, _ = process.communicate()
        store = json.loads(out)
        found.add((store["fingerprint"], (cache / store["fingerprint"] / "train.arrow").read_bytes()))
    assert len(found) == 1


def test_processes_that_ask_at_once_build_it_once(snaps: str, tmp_path: Path) -> None:
    processes = [python(PREPARE, snaps, tmp_path) for _ in range(3)]
    results = [process.communicate() for process in processes]
    assert len({out for out, _ in results}) == 1
    log = "".join(err for _, err in results)
    assert log.count("prepared ") == 1, log
    assert remains(tmp_path) == []


def test_a_killed_process_leaves_nothing_that_harms_the_next(snaps: str, tmp_path: Path) -> None:
    left = 0  # processes that were caught half-way
    for stage in ("scratch", "train.arrow", "test.arrow"):
        process = python(PREPARE, snaps, tmp_path)
        while process.poll() is None and not any((path / stage).exists() for path in remains(tmp_path)):
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left += bool(remains(tmp_path))
        if process.returncode != -signal.SIGKILL:  # it was faster
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
    assert left >= 1
    store = prepare(Data(source=snaps), tmp_path)
    assert remains(tmp_path) == []
    assert store == prepare(Data(source=snaps), tmp_path / "fresh").model_copy(update={"directory": store.directory})


def test_remains_are_removed_unless_their_maker_lives(pets: str, snaps: str, tmp_path: Path) -> None:
    for key in ("0" * 32, "1" * 32):
        (tmp_path / f"tmp-{key}-x").mkdir()
    (tmp_path / "locks").mkdir()
    holder = python(
        "import sys\nfrom filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()",
        tmp_path / f"locks/{'1' * 32}.lock",
        stdin=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    prepare(Data(source=pets), tmp_path)
    assert [path.name for path in remains(tmp_path)] == [f"tmp-{'1' * 32}-x"]
    holder.communicate("")
    prepare(Data(source=snaps), tmp_path)
    assert remains(tmp_path) == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "record", "key", "everything"])
def test_a_damaged_store_is_built_again(pets: str, tmp_path: Path, damage: str) -> None:
    store = prepare(Data(source=pets), tmp_path)
    content = all_pixels(store)
    if damage == "truncated":
        os.truncate(store.directory / "val.arrow", 100)
    elif damage == "missing":
        (store.directory / "train.arrow").unlink()
    elif damage == "record":
        (store.directory / "meta.json").write_text('{"fingerprint": 3}')
    elif damage == "key":
        next((tmp_path / "keys").iterdir()).write_text("{")
    else:
        shutil.rmtree(store.directory)
    again = prepare(Data(source=pets), tmp_path)
    assert again == store
    assert all_pixels(again) == content


@pytest.mark.parametrize("content", [b"[" * 100_000, b'"../../evil"', b"1" * 9000, b"\xff", b"", b"null"])
def test_a_changed_record_is_replaced(pets: str, tmp_path: Path, content: bytes) -> None:
    sound = prepare(Data(source=pets), tmp_path)
    for file in (next((tmp_path / "keys").iterdir()), sound.directory / "meta.json"):
        file.write_bytes(content)
        assert prepare(Data(source=pets), tmp_path) == sound


class TestDisk:
    def test_a_cache_that_cannot_be_a_folder_is_refused(self, pets: str, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for cache in (tmp_path / "file", tmp_path / "file" / "deeper"):
            with pytest.raises(ConfigError, match=r"^cache: must be a writable folder .*RESNET_SEARCH_CACHE"):
                prepare(Data(source=pets), cache)

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_cache_without_permission_is_refused(self, pets: str, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(ConfigError, match=r"must be a writable folder \(Permission denied\)"):
            prepare(Data(source=pets), tmp_path / "cache")

    @pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1) for a file system of its own")
    def test_a_disk_too_small_is_noticed_before_anything_is_written(self, snaps: str, tmp_path: Path) -> None:
        mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        if subprocess.run([*mount, f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False).returncode:
            pytest.skip("this system lets no user mount a tmpfs")
        script = (
            f'mount -t tmpfs -o size=8m none {tmp_path} && "$0" -c "$1" "$2" {tmp_path}; '
            f"code=$?; du -sk {tmp_path}; exit $code"
        )
        run = subprocess.run(
            [*mount, script, sys.executable, PREPARE, snaps], capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        assert "MiB of free disk while the data is prepared, and has 8" in run.stderr
        assert "Traceback" not in run.stderr
        assert int(run.stdout.split()[0]) < 50  # KiB left behind

    def test_a_write_that_fails_half_way_is_reported_and_cleaned_up(self, snaps: str, tmp_path: Path) -> None:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n{PREPARE}"
        process = python(limit, snaps, tmp_path)
        _, err = process.communicate()
        assert process.returncode == 1
        assert "cache: must be a writable folder (File too large)" in err
        assert "Traceback" not in err
        assert remains(tmp_path) == []

    def test_the_default_cache_follows_the_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("RESNET_SEARCH_CACHE", str(tmp_path))
        assert default_cache() == tmp_path
        monkeypatch.delenv("RESNET_SEARCH_CACHE")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_cache() == tmp_path / ".cache/resnet-search"
