"""The text of an exported folder's `load.py`: a short program that needs neither this package nor its settings."""

from __future__ import annotations

from trainables.prediction.formats import FORMATS, METADATA, FormatName
from trainables.prediction.preprocessing import Preprocessing

__all__ = ["loader"]

_BEGIN = '''\
"""`python load.py IMAGE...`, or `from load import classify`. Needs {needs}."""

import json, sys
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F
{imports}
FILE = Path(__file__).with_name("{file}")
'''

_OPEN: dict[FormatName, tuple[str, str]] = {
    "weights": (
        "from network import network  # beside this file\nfrom safetensors import safe_open\n",
        """\
with safe_open(FILE, "pt") as file:
    META = json.loads(file.metadata()["{key}"])
    MODEL = network(len(META["class_names"]), **META["model"]).eval()
    MODEL.load_state_dict({{name: file.get_tensor(name) for name in file.keys()}})
MEAN, STD = (torch.tensor(META["preprocessing"]["normalization"][key]).view(3, 1, 1) for key in ("mean", "std"))


def logits(pixels):  # uint8 [n, 3, {height}, {width}] -> float32 [n, classes]
    images = (pixels / 255 - MEAN) / STD
    return MODEL({images})
""",
    ),
    "pt2": (
        "",
        """\
extra = {{"{key}": ""}}
logits = torch.export.load(FILE, extra_files=extra).module()  # uint8 [n, 3, {height}, {width}] -> float32 [n, classes]
META = json.loads(extra["{key}"])
""",
    ),
    "torchscript": (
        "",
        """\
extra = {{"{key}": ""}}
logits = torch.jit.load(FILE, _extra_files=extra)  # uint8 [n, 3, {height}, {width}] -> float32 [n, classes]
META = json.loads(extra["{key}"])
""",
    ),
    "onnx": (
        "import onnxruntime\n",
        """\
session = onnxruntime.InferenceSession(FILE)
META = json.loads(session.get_modelmeta().custom_metadata_map["{key}"])


def logits(pixels):  # uint8 [n, 3, {height}, {width}] -> float32 [n, classes]
    return torch.from_numpy(session.run(None, {{"pixels": pixels.numpy()}})[0])
""",
    ),
}

_PREPARE = """

def prepare(file):  # the pixels as in training, uint8 [3, {height}, {width}]
    image = {opened}
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return F.pil_to_tensor({cut})


@torch.inference_mode()
def classify(files):  # of each file the class and the probability that the network gives it
    best = logits(torch.stack([prepare(file) for file in files])).softmax(1).max(1)
    return [(META["class_names"][label], p) for p, label in zip(best.values.tolist(), best.indices.tolist())]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(*classify([path])[0], path)
"""
_SQUARE = 'F.center_crop(F.resize(image.convert("RGB"), [{height}]), [{height}])'
_OBLONG = 'ImageOps.fit(image.convert("RGB"), ({width}, {height}), Image.Resampling.BILINEAR)'
_OPENED = "ImageOps.exif_transpose(Image.open(file))"
_REDUCED = """Image.open(file)
    image.draft("RGB", ({twice}, {twice}))
    image = ImageOps.exif_transpose(image)"""


def loader(name: FormatName, preprocessing: Preprocessing) -> str:
    """The program for one format and one way to prepare images."""
    (height, width), side = preprocessing.size, preprocessing.resolution
    imports, opening = _OPEN[name]
    images = "images"
    if preprocessing.network_size != preprocessing.size:
        resized = f'images, ({side}, {side}), mode="bilinear", antialias=True'
        images = f"torch.nn.functional.interpolate({resized})"
    reduced = preprocessing.decoding == "reduced" and height == width
    parts = {
        "needs": FORMATS[name].needs, "imports": imports, "file": FORMATS[name].file, "key": METADATA,
        "height": height, "width": width, "images": images,
        "opened": _REDUCED.format(twice=2 * height) if reduced else _OPENED,
        "cut": (_SQUARE if height == width else _OBLONG).format(height=height, width=width),
    }  # fmt: skip
    return "".join(piece.format(**parts) for piece in (_BEGIN, opening, _PREPARE))
