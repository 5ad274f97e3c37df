"""What a file that was given as weights is, told from its first bytes, its name and what a zip file lists.

Only files of torch and safetensors are read. Everything else that people have at hand is named here with the way out,
since "damaged or of another format" leaves them to guess.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

__all__ = ["HEAD", "STATE_DICT", "Format", "is_safetensors", "other_format"]

Format = tuple[str, str]  # what the file is, and the way out

_AGAIN = "download it again"
_CONVERT = "convert it to PyTorch first, or take weights of the same network in PyTorch's format"
STATE_DICT = "torch.save(model.state_dict(), 'weights.pt')"
_SCRIPT = (
    "a TorchScript archive, which is a program",
    'save its weights alone where you trust it: python -c "import torch; '
    "torch.save(torch.jit.load('FILE').state_dict(), 'weights.pt')\"",
)
_ONNX = ("an ONNX model", f"save it from PyTorch: {STATE_DICT}")
_KERAS, _TENSORFLOW = ("weights of Keras (HDF5)", _CONVERT), ("a TensorFlow checkpoint", _CONVERT)
_UNPACK = "unpack it and give the file of weights in it"

HEAD = 512  # bytes that are looked at

# What files begin with. https://en.wikipedia.org/wiki/List_of_file_signatures and each format's documentation.
_BEGINNINGS: tuple[tuple[str, Format], ...] = (
    (r"version https://git-lfs", ("a Git LFS pointer, not the weights", "run `git lfs pull` in its folder")),
    (r"(?i)\s*(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|error)", ("a web page, saved in its place", _AGAIN)),
    (r"\x89HDF\r\n\x1a\n", _KERAS),
    (r"model_checkpoint_path", _TENSORFLOW),
    (r"\x93NUMPY", ("a NumPy array (.npy)", f"save a state dict instead: {STATE_DICT}")),
    (r"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]", _ONNX),
    (r"(?s).{4}TFL3", ("a TensorFlow Lite model", _CONVERT)),
    (r"GGUF", ("a GGUF file", _CONVERT)),
    (r"\x1f\x8b|BZh|\xfd7zXZ\x00|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", ("a compressed archive", _UNPACK)),
    (r"PAR1|ARROW1|\x89PNG|\xff\xd8\xff|%PDF", ("no weights but data or a document", "give the path of the weights")),
)  # fmt: skip

_NAMES: tuple[tuple[str, Format], ...] = (
    (r"\.onnx$", _ONNX),
    (r"\.(h5|hdf5|keras)$", _KERAS),
    (r"\.(data-\d+-of-\d+|index|meta)$", _TENSORFLOW),
    (r"\.(pb|tflite)$", ("a TensorFlow model", _CONVERT)),
    (r"\.msgpack$", ("weights of Flax", _CONVERT)),
    (r"\.(caffemodel|prototxt)$", ("weights of Caffe", _CONVERT)),
    (r"\.(params|pdparams)$", ("weights of MXNet or Paddle", _CONVERT)),
    (r"\.(crdownload|part|download|incomplete|tmp)$", ("an unfinished download", _AGAIN)),
)

# What the files in a zip file are called.
_MEMBERS: tuple[tuple[str, Format], ...] = (
    (r"(^|/)(constants|bytecode)\.pkl$|(^|/)code/", _SCRIPT),
    (r"model\.weights\.h5$", _KERAS),
    (r"serialized_exported_program|(^|/)models/[^/]*\.json$", (
        "a program of torch.export", f"save the weights of the network itself: {STATE_DICT}")),
    (r"\.npy$", ("a NumPy archive (.npz)", "save it for torch: torch.save({name: torch.from_numpy(array) for "
        "name, array in numpy.load('FILE').items()}, 'weights.pt')")),
    (r"(^|/)extern_modules$", ("a package of torch.package", f"save the weights of the network itself: {STATE_DICT}")),
    (r"\.distcp$", ("a distributed checkpoint", "python -m torch.distributed.checkpoint.format_utils dcp_to_torch")),
)  # fmt: skip


def other_format(path: Path) -> Format | None:
    """What the file at `path` is, if neither torch nor safetensors can read it, and the way out.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    size = path.stat().st_size
    if not size:
        return "an empty file", _AGAIN
    if is_safetensors(head):
        whole = 8 + int.from_bytes(head[:8], "little") <= size
        return None if whole else ("a safetensors file that is cut off", _AGAIN)
    text = head.decode("latin-1")
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    if head.startswith(b"\x80"):  # a pickle: torch's before version 1.6, or another program's
        return None
    found = next((form for pattern, form in _BEGINNINGS if re.match(pattern, text)), None)
    found = found or next((form for pattern, form in _NAMES if re.search(pattern, path.name.lower())), None)
    if found is None and re.match(r"\s*[{\[]", text):
        return "a JSON text", "give the path of the weights, often model.safetensors or pytorch_model.bin beside it"
    if found is None and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return f"a text ({' '.join(text.split())[:40]!r})", "give the path of the weights"
    return found


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins as the format prescribes: the length of the header, and the header, which is JSON.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000


def _zipped(path: Path) -> Format | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return "a file whose end is missing or damaged", _AGAIN
    found = next((form for pattern, form in _MEMBERS if any(re.search(pattern, name) for name in names)), None)
    if found is None and not any(name.endswith("data.pkl") for name in names):
        return "a zip archive", _UNPACK
    return found
