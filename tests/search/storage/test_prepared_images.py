"""Prepared images go to a storage once and come to each node once, whole or not at all."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.storage.prepared_images import fetch_prepared, share_prepared
from search.storage.remote import RemoteFolder, local_storage
from trainables.config import ConfigError, Data, parse_config
from trainables.data.store import RECORD, PreparedData, prepare, request
from trainables.trainable import build_trainable

DATA = Data(source="digits", val_fraction=0.2, test_fraction=0.2)


@pytest.fixture
def shared(tmp_path: Path) -> tuple[RemoteFolder, PreparedData]:
    store = prepare(DATA, tmp_path / "driver")
    storage = local_storage(tmp_path / "storage")
    assert share_prepared(storage, {request(DATA): store}) == {request(DATA): store.fingerprint}
    return storage, store


def here(store: PreparedData, node: Path) -> PreparedData:
    return store.model_copy(update={"directory": node / store.fingerprint})


def test_a_node_trains_on_images_that_it_never_prepared(
    tmp_path: Path, shared: tuple[RemoteFolder, PreparedData]
) -> None:
    storage, store = shared
    node = tmp_path / "node"
    fetched = fetch_prepared(storage, store.fingerprint, node)
    assert fetched == here(store, node)
    for name in store.nbytes:
        assert (fetched.directory / name).read_bytes() == (store.directory / name).read_bytes()
    # The source is not on this node, and need not be.
    tree = {"model": {"kind": "cifar_resnet", "depth": 8}, "data": DATA.model_dump() | {"source": "imagefolder:/gone"}}
    config = parse_config(tree | {"epochs": 1, "batch_size": 256})
    result = next(build_trainable(config, node, fetched).epochs())
    assert result.epoch == 1
    with pytest.raises(ConfigError, match="gone"):
        build_trainable(config, node)


def test_many_processes_of_a_node_fetch_once(
    tmp_path: Path, shared: tuple[RemoteFolder, PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, store = shared
    fetched: list[str] = []
    get = RemoteFolder.get
    monkeypatch.setattr(RemoteFolder, "get", lambda self, name, to: (fetched.append(name), get(self, name, to)))
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: fetch_prepared(storage, store.fingerprint, tmp_path / "node"), range(8)))
    assert stores == [here(store, tmp_path / "node")] * 8
    assert sorted(fetched) == sorted([*store.nbytes, RECORD])


def test_half_a_copy_is_none(tmp_path: Path, shared: tuple[RemoteFolder, PreparedData]) -> None:
    storage, store = shared
    folder = Path(storage.path, "prepared", store.fingerprint)
    (folder / RECORD).unlink()
    with pytest.raises(FileNotFoundError, match="no prepared images"):
        fetch_prepared(storage, store.fingerprint, tmp_path / "node")
    share_prepared(storage, {request(DATA): store})  # continues
    (tmp_path / "node" / f"tmp-{store.fingerprint}-of-a-dead-process").mkdir(parents=True)
    assert fetch_prepared(storage, store.fingerprint, tmp_path / "node") == here(store, tmp_path / "node")
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == sorted([store.fingerprint, "locks"])
    shutil.rmtree(tmp_path / "node")
    (folder / "val.arrow").write_bytes(b"cut")
    with pytest.raises(FileNotFoundError, match="damaged"):
        fetch_prepared(storage, store.fingerprint, tmp_path / "node")
