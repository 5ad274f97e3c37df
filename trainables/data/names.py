"""What file and folder names mean: which split, which image format, what systems leave behind. Tables, and no I/O.

A folder is a split when its name is one of `SPLIT_WORDS` and nothing else that could be a class: `Train`, `test_set`,
`split=val`, `train2017`, `images-dev`, but not `test_tube`. A table's name, which can be no class, need only contain
one: `mnist_test`, `cifar10-train`, `partial-train`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from trainables.data.source import Split

__all__ = [
    "ARCHIVES", "CONVERT", "EXTENSIONS", "NOT_IMAGES", "OTHER_IMAGES", "SPLIT_WORDS", "format_of", "is_junk",
    "is_wrapper", "refusal_of_file", "split_of_folder", "split_of_table", "splits_of_folders", "suffix",
]  # fmt: skip

SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val",
    "dev": "val", "devel": "val", "development": "val", "eval": "val", "evaluation": "val",
    "test": "test", "testing": "test", "holdout": "test", "heldout": "test",
}  # fmt: skip
# Words beside a split's that make no class of it; `trainset` and `valdata` are taken apart.
_FILLERS = frozenset({
    "set", "sets", "data", "dataset", "ds", "split", "subset", "part", "partial", "full", "image", "images",
    "img", "imgs", "picture", "pictures", "photo", "photos", "sample", "samples", "folder", "dir", "of",
})  # fmt: skip
_GLUED = re.compile(r"(?P<word>[a-z]+?)(?:set|data|dataset|images|imgs|pics|photos|samples|split|dir|folder)")
# Splits only where every folder beside them is one: `te` may be a class.
_SHORT: dict[str, Split] = {
    "tr": "train", "trn": "train", "va": "val", "vl": "val", "vld": "val", "te": "test", "tst": "test", "ts": "test",
}  # fmt: skip
_HELD_OUT = re.compile(r"(hold|held)[\W_]+out", re.IGNORECASE)

# What computers, NAS boxes and notebooks leave behind, in any case; hidden names (`.DS_Store`, `._a.jpg`,
# `.ipynb_checkpoints`, `.AppleDouble`, `.thumbnails`, `.git`) are junk as well.
_JUNK = frozenset({
    "@eadir", "@tmp", "@sharebin", "@sharesnap", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",  # NAS
    "$recycle.bin", "system volume information", "found.000", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db",
    "thumbs.db:encryptable", "desktop.ini",  # Windows
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "lost+found", "lost.dir", "__pycache__", "picasa.ini", "zbthumbnail.info",
})  # fmt: skip
_JUNK_BEGINS = (".", "__macosx", "synofile_thumb", "synophoto_thumb", "~$")

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp",
    ".mpo", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".gif",
)  # fmt: skip
# How to convert what Pillow does not read, or not the same everywhere; files named so are images that are refused.
CONVERT = {
    "HEIC": "magick mogrify -format png *.heic",
    "AVIF": "magick mogrify -format png *.avif",
    "JPEG XL": "magick mogrify -format png *.jxl",
    "JPEG 2000": "magick mogrify -format png *.jp2",
    "Photoshop": "magick mogrify -format png -flatten *.psd",
    "OpenEXR": "magick mogrify -format png *.exr",
    "Radiance HDR": "magick mogrify -format png *.hdr",
    "TGA": "magick mogrify -format png *.tga",
    "DDS": "magick mogrify -format png *.dds",
    "QOI": "magick mogrify -format png *.qoi",
    "PCX": "magick mogrify -format png *.pcx",
    "SGI": "magick mogrify -format png *.sgi",
    "PFM": "magick mogrify -format png *.pfm",
    "FITS": "magick mogrify -format png *.fits",
    "camera raw": "dcraw -c -w FILE | magick - FILE.png",
    "DICOM": "dcm2img FILE.dcm FILE.png, of the dcmtk tools",
}
OTHER_IMAGES = {
    ".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".j2k": "JPEG 2000",
    ".psd": "Photoshop", ".exr": "OpenEXR", ".hdr": "Radiance HDR", ".tga": "TGA", ".dcm": "DICOM", ".hif": "HEIC",
    ".heics": "HEIC", ".jpx": "JPEG 2000", ".jpf": "JPEG 2000", ".j2c": "JPEG 2000", ".jpc": "JPEG 2000",
    ".dds": "DDS", ".qoi": "QOI", ".pcx": "PCX", ".sgi": "SGI", ".pfm": "PFM", ".fits": "FITS", ".fit": "FITS",
    ".cr2": "camera raw", ".cr3": "camera raw", ".nef": "camera raw", ".arw": "camera raw", ".dng": "camera raw",
    ".orf": "camera raw", ".rw2": "camera raw", ".raf": "camera raw", ".pef": "camera raw", ".sr2": "camera raw",
}  # fmt: skip
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# Files beside images that are counted and left out; what has none of these names is looked into.
NOT_IMAGES = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html", ".htm", ".pdf",
    ".py", ".ipynb", ".m", ".sh", ".log", ".parquet", ".arrow", ".feather", ".svg", ".ico", ".npy", ".nii",
    ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5", ".hdf5", ".mat", ".db", ".sqlite", ".ini", ".cfg",
    ".toml", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".mp4", ".avi", ".mov", ".mp3", ".wav", ".md5",
    ".sha256", ".lock", ".url", ".names", ".data", ".bib", ".cff",
    *ARCHIVES,
})  # fmt: skip

# (offset, bytes, format) at the beginning of a file.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "Git LFS pointer"), (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG", "PNG"),
    (0, b"BM", "BMP"), (8, b"WEBP", "WEBP"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"), (0, b"GIF8", "GIF"), (4, b"ftypavif", "AVIF"), (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"), (4, b"ftyphev", "HEIC"), (4, b"ftypmif1", "HEIC"), (4, b"ftypmsf1", "HEIC"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"), (0, b"\xff\x0a", "JPEG XL"), (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"), (0, b"8BPS", "Photoshop"), (0, b"<svg", "SVG"), (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"), (0, b"qoif", "QOI"), (0, b"DDS ", "DDS"), (0, b"SIMPLE  =", "FITS"),
    (0, b"\x01\xda", "SGI"), (0, b"PF\n", "PFM"), (0, b"Pf\n", "PFM"),
    (0, b"\0\0\x01\0", "icon"), (128, b"DICM", "DICOM"),
    (0, b"\x93NUMPY", "NumPy"), (0, b"%PDF", "PDF"), (0, b"PK\x03\x04", "ZIP archive"), (0, b"\x89HDF", "HDF5"),
)  # fmt: skip


def suffix(name: str) -> str:
    """The extension in lower case, with its dot; "" without one."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without numbers: `splitTest_01` is split, test."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _HELD_OUT.sub("holdout", name))
    words = re.findall(r"[^\W\d_]+", apart.lower())
    glued = (_GLUED.fullmatch(word) for word in words)
    return [g["word"] if g and g["word"] in SPLIT_WORDS else word for g, word in zip(glued, words, strict=True)]


def split_of_folder(name: str) -> Split | None:
    """The split that a folder beside others is; None if it may be a class, or is no word of ours."""
    words = [word for word in _words(name) if word not in _FILLERS]
    found = {SPLIT_WORDS.get(word) for word in words}
    return found.pop() if len(found) == 1 else None


def splits_of_folders(names: Iterable[str]) -> dict[str, Split]:
    """The splits among folders that lie side by side. They may share their data set's name: `seg_train`, `seg_test`."""
    names = list(names)
    found = {name: split for name in names if (split := split_of_folder(name))}
    if "train" in found.values():
        return found
    short = found | {name: split for name in names if (split := _SHORT.get("".join(_words(name))))}
    if len(short) == len(names) > 1 and "train" in short.values():
        return short
    shared: dict[tuple[str, ...], dict[str, Split]] = {}
    for name in names:
        words = [word for word in _words(name) if word not in _FILLERS]
        known = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
        if len(known) == 1:
            shared.setdefault(tuple(word for word in words if word not in SPLIT_WORDS), {})[name] = known[0]
    groups = [group for group in shared.values() if len(group) > 1 and "train" in group.values()]
    return groups[0] if len(groups) == 1 and not found else found


def split_of_table(name: str) -> Split | None:
    """The split in the name of a table, or of a folder of tables: the first word's, else the only one's."""
    found = [SPLIT_WORDS.get(word) for word in _words(name)]
    known = {split for split in found if split}
    return found[0] if found and found[0] else known.pop() if len(known) == 1 else None


def is_wrapper(name: str) -> bool:
    """Whether a folder of this name only holds another: `train/train/...`, `train/images/...`."""
    words = _words(name)
    return bool(words) and all(word in _FILLERS or word in SPLIT_WORDS for word in words)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name was left by a system: no class, no image, at any depth."""
    return name == "RECYCLER" or name.lower() in _JUNK or name.lower().startswith(_JUNK_BEGINS)


def format_of(head: bytes) -> str | None:
    """The format that the first bytes of a file tell, whatever its name; None if they tell none."""
    return next((name for offset, magic, name in _MAGIC if head[offset : offset + len(magic)] == magic), None)


def refusal_of_file(path: str) -> str:
    """What to do with a single file that was given for a folder of images or a Parquet file."""
    kind = suffix(path)
    if kind in ARCHIVES:
        return f"must be unpacked: `{'unzip' if kind == '.zip' else 'tar -xf'} {path}`, and name the folder"
    if kind in (".csv", ".tsv", ".json", ".jsonl", ".txt"):
        return (
            "must hold the images: this is a list of them; sort them into a folder a class (imagefolder:PATH), or "
            "write images and labels into a Parquet file (parquet:PATH)"
        )
    if kind == ".parquet":
        return f"must be a folder; a Parquet file is named parquet:{path}"
    if kind in EXTENSIONS or kind in OTHER_IMAGES:
        return "must name a folder with a folder of images a class, not an image"
    return "must be a folder of images (imagefolder:PATH), or a Parquet file or a folder of them (parquet:PATH)"
