"""Prepared images that are damaged on disk: read as they were, or refused; the process lives on."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tests.mutations import check_clear
from tests.trainables.image_files import encode, picture, write_folder, write_parquet
from trainables.config import ConfigError, Data
from trainables.data.arrow import EncodedRows, read_labels, read_pixels
from trainables.data.images import load_splits
from trainables.data.store import prepare

# In a process of its own: what Arrow trusts wrongly ends it.
READ = """
import sys
from pathlib import Path
from tests.mutations import read_or_refused
from trainables.data.arrow import EncodedRows, read_labels, read_pixels

def read(path):
    labels, pixels = read_labels(path), read_pixels(path)
    if pixels is None:
        rows = EncodedRows(path)
        assert sum(len(rows[i]) for i in range(len(rows))) <= path.stat().st_size
    else:
        assert pixels.sum() <= pixels.size * 255
    return len(labels)

found = [read_or_refused(lambda: read(path)) for path in sorted(Path(sys.argv[1]).glob("*.arrow"))]
print(len(found), sum(count is None for count in found))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Data:
    pictures = [encode(picture(i, 8, 8)) for i in range(12)]
    path = write_parquet(tmp_path_factory.mktemp("sound") / "a.parquet", pictures, [i % 2 for i in range(12)])
    return Data(source=f"parquet:{path}")


@pytest.mark.parametrize("shape", [(8, 8, "png"), (100, 80, "jpg")], ids=["pixels", "encoded"])
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, shape: tuple[int, int, str]) -> None:
    data = Data(source=f"imagefolder:{write_folder(tmp_path / 'images', {'a': 20, 'b': 20}, *shape)}")
    content = (prepare(data, tmp_path / "cache").directory / "train.arrow").read_bytes()
    draws, folder, count = random.Random(0), tmp_path / "damaged", 300  # noqa: S311 (places, not secrets)
    folder.mkdir()
    for number in range(count):
        changed = bytearray(content)
        for _ in range(draws.randint(1, 4)):
            near = draws.randrange(min(1200, len(changed)))
            place = draws.choice([near, len(changed) - 1 - near])
            changed[place] = draws.choice([draws.randrange(256), 255, 0, changed[place] ^ (1 << draws.randrange(8))])
        if number % 10 == 0:
            del changed[draws.randrange(len(changed)) :]
        (folder / f"{number:03}.arrow").write_bytes(changed)
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    read, refused = map(int, done.stdout.split())
    assert read == count
    assert refused > count / 10


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    tensor = pa.fixed_shape_tensor(pa.uint8(), (3, 2, 2))
    pixels = pa.ExtensionArray.from_storage(tensor, pa.array([[0] * 12] * 2, tensor.storage_type))
    labels = pa.array([0, 1])
    other = pa.fixed_shape_tensor(pa.float32(), (3, 2, 2))
    floats = pa.ExtensionArray.from_storage(other, pa.array([[0.0] * 12] * 2, other.storage_type))
    for table in (
        pa.table({"image": pixels}),
        pa.table({"image": pixels, "label": [0, None]}),
        pa.table({"image": pixels, "label": ["a", "b"]}),
        pa.table({"image": floats, "label": labels}),
        pa.table({"image": ["a", "b"], "label": labels}),
        pa.table({"image": pa.chunked_array([pixels, pixels]), "label": [0, 1, 0, 1]}),
    ):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        for read in (read_labels, read_pixels, EncodedRows):
            with pytest.raises(ConfigError, match="must be a sound file of prepared images") as caught:
                read(path)
            check_clear(caught.value)


def test_labels_of_no_class_are_refused(tmp_path: Path, source: Data) -> None:
    store = load_splits(source, tmp_path).store
    path = store.directory / "train.arrow"
    content = path.read_bytes()
    label = (1).to_bytes(8, "little")
    place = content.index(label, len(content) // 2)
    path.write_bytes(content[:place] + (7).to_bytes(8, "little") + content[place + 8 :])
    with pytest.raises(ConfigError, match=r"train\.arrow: must hold each image's label, one of the classes") as caught:
        load_splits(source, tmp_path)
    check_clear(caught.value)
