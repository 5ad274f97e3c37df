"""Files of weights that others wrote: found in folders, told apart, and read without running anything in them.

torch reads its own files (`weights_only=True`), the safetensors library that format. What training scripts store beside
the weights (options, paths, numbers of NumPy) is of no use here: its types are replaced by stand-ins, so that no class
that a file names is ever imported.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from trainables.checkpoints.checkpoint import UNREADABLE, read_tensors
from trainables.checkpoints.formats import HEAD, STATE_DICT, is_safetensors, other_format
from trainables.config import ConfigError

__all__ = ["read_weights"]

# The files of a folder of a model hub or of a training script, the likeliest first.
_USUAL = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "mp_rank_00_model_states.pt",
)  # fmt: skip
_TORCHS_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # what every file of torch before 1.6 begins with
_INDEX = ".index.json"
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".th", ".ckpt", ".tar")
_LEGACY_PICKLES = 4  # of a file of torch before 1.6: magic number, version, system, and the content

# Types that hold plain data. What is stored in them is not read.
_HARMLESS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|pathlib\..*|datetime\..*|decimal\.Decimal|fractions\.Fraction|uuid\.UUID"
    r"|builtins\.(set|frozenset|slice|range|complex|bytearray|dict|list|tuple|str|int|float|bool|type|object)"
    r"|collections\.\w+|enum\.\w+|typing\.\w+|copyreg\._reconstructor|functools\.partial"
    r"|numpy\..*|omegaconf\..*|yacs\.config\.CfgNode|easydict\.EasyDict|addict\.addict\.Dict|ml_collections\..*"
    r"|(pytorch_lightning|lightning_fabric|lightning)\.\w+\.\S*|mmengine\..*|mmcv\..*|hydra\..*|torch\.optim\..*|torch\.torch_version\.\w+"
)
# What torch reads itself; it decides, this only keeps the names out of the message.
_TORCHS_OWN = re.compile(r"torch\.\w+|torch\.(_utils|storage|_tensor|nn\.parameter|serialization)\.\w+|_codecs\.encode")
_MAPPINGS = ("AttributeDict", "CfgNode", "EasyDict", "Dict", "ConfigDict")  # subclasses of dict, filled item by item
# Functions that run commands or code: a file that names them was made to.
_HOSTILE = re.compile(
    r"(posix|nt|os|sys|subprocess|shutil|socket|runpy|pty|commands|webbrowser|importlib|ctypes)\..*"
    r"|builtins\.(eval|exec|execfile|compile|open|getattr|__import__|apply)"
)


class _Ignored:
    """Stands for an object that is not read: takes whatever it is made of, and does nothing with it."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _ignored_mapping(*_: object) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _ignored_list(*_: object) -> list[Any]:
    return []


def read_weights(path: Path, setting: str) -> tuple[object, Path]:
    """The content of a file of torch's or safetensors', and the file itself where `path` is a folder with it.

    Args:
        path: a file, or a folder as model hubs give them.
        setting: the setting that named it, for the error.

    Raises:
        ConfigError: if it is missing, damaged, or something else, which is named.
    """
    try:
        file = _in_folder(path, setting) if path.is_dir() else path
        if not file.is_file():
            parts = sorted(file.parent.glob(f"{file.name}.*")) if file.name and file.parent.is_dir() else []
            if any(part.suffix == ".index" for part in parts):
                raise _is_no_weights(file, setting, "a TensorFlow checkpoint", "convert it to PyTorch first")
            is_url = re.match(r"(https?|s3|gs|hf):/", str(path))
            raise FileNotFoundError("an address: download it first" if is_url else "there is none")
        if file.name.endswith(_INDEX):
            return _sharded(file, setting), file
        return _one_file(file, setting), file
    except OSError as error:
        rule = f"must be the path of a readable file with weights ({error.strerror or error})"
        raise ConfigError.single(setting, str(path), rule) from None


def _is_no_weights(path: Path, setting: str, what: str, way_out: str) -> ConfigError:
    return ConfigError.single(setting, str(path), f"must be a file of weights, and is {what}: {way_out}")


def _in_folder(folder: Path, setting: str) -> Path:
    """The file of weights in a folder, or in its only folder that has one (a model hub's cache)."""
    if any(folder.glob("*.distcp")):
        way_out = f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt"
        raise _is_no_weights(folder, setting, "a folder with a distributed checkpoint", way_out)
    usual = [folder / name for name in _USUAL if (folder / name).is_file()]
    if usual:
        return usual[0]
    found = sorted(p for p in folder.glob("*") if p.suffix in _ENDINGS and p.is_file())
    if not found:
        found = sorted(p for p in islice(folder.rglob("*"), 10_000) if p.name in _USUAL and p.is_file())
    if len(found) == 1:
        return found[0]
    inside = ", ".join(str(p.relative_to(folder)) for p in (found or sorted(folder.iterdir()))[:5]) or "nothing"
    if found:
        raise _is_no_weights(folder, setting, f"a folder with {len(found)} of them", f"give one of {inside}")
    raise _is_no_weights(folder, setting, f"a folder without any (in it: {inside})", "give the path of the file")


def _sharded(index: Path, setting: str) -> dict[str, object]:
    """The tensors of all shards that an index lists."""
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        files = [index.parent / Path(name).name for name in shards]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _is_no_weights(index, setting, "an index without a weight_map", "download it again") from None
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        rule = f"must have all its {len(files)} shards beside it, and lacks {', '.join(missing[:3])}: download them"
        raise ConfigError.single(setting, str(index), rule)
    merged: dict[str, object] = {}
    for file in files:
        content = _one_file(file, setting)
        if not isinstance(content, dict):
            raise _is_no_weights(file, setting, "a shard without a state dict", "download it again")
        merged |= content
    return merged


def _one_file(file: Path, setting: str) -> object:
    other = other_format(file)
    if other is not None:
        raise _is_no_weights(file, setting, other[0], other[1].replace("FILE", file.name))
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    if is_safetensors(head):
        try:
            return safetensors.torch.load_file(file)
        except (SafetensorError, *UNREADABLE) as error:
            reason = " ".join(str(error).split())[:100]
            what = f"a safetensors file that is damaged or cut off ({reason})"
            raise _is_no_weights(file, setting, what, "download it again") from None
    stand_ins = _stand_ins(file, setting)
    if head.startswith(b"\x80") and _TORCHS_MAGIC not in head:
        way_out = f"save it with torch, as a dictionary of tensors: {STATE_DICT}"
        raise _is_no_weights(file, setting, "a pickle of Python's, not of torch", way_out)
    with torch.serialization.safe_globals(stand_ins):
        return read_tensors(file, setting)


def _stand_ins(file: Path, setting: str) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What to put for each type that a file names and torch does not know.

    Raises:
        ConfigError: naming the types that may be more than plain data, with the line that saves the weights alone.
    """
    try:
        names, is_object = _named_in(file)
    except UNREADABLE:  # read_tensors says what is wrong
        return []
    refused = [name for name in names if not _HARMLESS.fullmatch(name) and not _TORCHS_OWN.fullmatch(name)]
    if refused:
        listed = ", ".join(name[:60] for name in refused[:3]) + (" and more" if len(refused) > 3 else "")
        if any(_HOSTILE.fullmatch(name) for name in refused):
            what = f"a pickle that would run {listed}, as a malicious file does"
            raise _is_no_weights(file, setting, what, "nothing of it was run; take weights from elsewhere")
        whole = any(name.startswith("torch.nn.modules.") for name in refused)
        what = f"a whole pickled model ({listed})" if whole else f"one with objects beside tensors ({listed})"
        part = "c.state_dict()" if is_object else "c['model'].state_dict()" if whole else "c['state_dict']"
        line = f"import torch; c = torch.load('{file.name}', weights_only=False); torch.save({part}, 'weights.pt')"
        way_out = f'reading it would run its code; where you trust it, save the weights alone: python -c "{line}"'
        raise _is_no_weights(file, setting, what, way_out)
    return [(_stand_in(name), name) for name in names if _HARMLESS.fullmatch(name)]


def _stand_in(name: str) -> Callable[..., Any]:
    last = name.rpartition(".")[2]
    if last in ("defaultdict", "deque"):
        return _ignored_mapping if last == "defaultdict" else _ignored_list
    return OrderedDict if last in _MAPPINGS else _Ignored


def _named_in(file: Path) -> tuple[list[str], bool]:
    """Every function and class that a file of torch's names, and whether its content is an object of such a class."""
    with file.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            opened.seek(0)
            return _disassembled(opened, _LEGACY_PICKLES)
        with zipfile.ZipFile(opened) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as pickled:
                return _disassembled(pickled, 1)


def _disassembled(file: IO[bytes], pickles: int) -> tuple[list[str], bool]:
    names: dict[str, None] = {}
    for number in range(pickles):
        try:
            operations = list(_operations(file))
        except ValueError:
            if number:  # a single pickle, of another program
                break
            raise
        found = (argument for name, argument in operations if name == "GLOBAL")
        names |= dict.fromkeys(
            re.sub(r"^__builtin__\.", "builtins.", name) for name in found
        )  # Python 2's, of protocol 2
        is_object = [name for name, _ in operations[:2]][-1:] == ["GLOBAL"]
        is_object = is_object and operations[1][1] != "collections.OrderedDict"
    return list(names), is_object


def _operations(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    for operation, argument, _ in pickletools.genops(file):
        yield operation.name, str(argument).replace(" ", ".", 1) if operation.name == "GLOBAL" else ""
