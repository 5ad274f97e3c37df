"""Pretrained weights: real ones score as they should, every form loads, and every misfit is named."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from tests.mutations import damaged, read_or_refused
from trainables.config import CifarResNet, ConfigError, Model, Normalization, SyntheticCurve, TorchvisionResNet
from trainables.data.images import Images
from trainables.models import build_model, pretrained
from trainables.models.networks import build_network
from trainables.models.pretrained import IMAGENET, check_pretrained, download, pretrained_scale
from trainables.models.protocol import head

Weights = dict[str, Tensor]
EIGHT = CifarResNet(depth=8)


OWN = Normalization(mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
IMAGES = Images(torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 8)


def _scale(config: Model) -> Normalization:
    found = pretrained_scale(config, IMAGES, OWN)
    assert found is not None
    return found.normalization


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(0)
    model = build_network(EIGHT, 10)
    for name, value in model.named_buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
        assert "running" in name or "num_batches" in name
    return dict(model.state_dict())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def _at(path: Path, model: CifarResNet | TorchvisionResNet = EIGHT) -> CifarResNet | TorchvisionResNet:
    return model.model_copy(update={"pretrained": str(path)})


def _saved(content: object, path: Path) -> CifarResNet | TorchvisionResNet:
    torch.save(content, path)
    return _at(path)


def _message(config: Model) -> str:
    """What check_pretrained says, which is one mistake and, where a path is given, what build_model says too."""
    with pytest.raises(ConfigError) as checked:
        check_pretrained(config)
    (problem,) = checked.value.problems
    assert problem.path == "model.pretrained"
    with pytest.raises(ConfigError) as built:
        build_model(config, 10)
    assert built.value.problems == checked.value.problems
    assert len(str(problem)) < 800
    return str(problem)


def _test_split(data_dir: Path, count: int | None = None) -> tuple[Tensor, Tensor]:
    table = pq.read_table(data_dir / "cifar10_jpeg" / "test-00000-of-00001.parquet")
    rows = table.slice(0, count).to_pylist()
    images = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows])
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (IMAGENET.mean, IMAGENET.std))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - mean) / std, torch.tensor([row["label"] for row in rows])


def _accuracy(config: Model, images: Tensor, labels: Tensor) -> float:
    model = build_model(config, 10).eval()
    with torch.inference_mode():
        guesses = torch.cat([model(batch).argmax(1) for batch in torch.split(images, 250)])
    return (guesses == labels).float().mean().item()


def test_published_resnet20_scores_on_a_thousand_test_images(data_dir: Path, weights_dir: Path) -> None:
    config = CifarResNet(depth=20, pretrained=str(weights_dir / "resnet20-12fca82f.th"))
    images, labels = _test_split(data_dir, 1000)
    # Of the whole split it is 81.0 % (below): these thousand, whose standard error is 1.2 points, are a little easier.
    assert _accuracy(config, images, labels) == pytest.approx(0.820, abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "name", "expected"), [(20, "12fca82f", 0.810), (56, "4bfd9763", 0.832)])
def test_published_networks_score_on_the_whole_test_split(
    depth: int, name: str, expected: float, data_dir: Path, weights_dir: Path
) -> None:
    config = CifarResNet(depth=depth, pretrained=str(weights_dir / f"resnet{depth}-{name}.th"))
    assert round(_accuracy(config, *_test_split(data_dir)), 3) == expected


def _prefixed(prefix: str) -> Callable[[Weights], object]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def _renamed_head(name: str) -> Callable[[Weights], object]:
    return lambda weights: {key.replace("fc.", name): value for key, value in weights.items()}


def _averaged(weights: Weights) -> object:
    model = build_network(EIGHT, 10)
    model.load_state_dict(weights)
    return AveragedModel(model).state_dict()


def _zeros(weights: Weights) -> Weights:
    return {name: torch.zeros_like(value) for name, value in weights.items()}


def _headless(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if not name.startswith("fc.")}


FORMS: dict[str, Callable[[Weights], object]] = {
    "bare": lambda weights: weights,
    "data parallel": _prefixed("module."),
    "compiled": _prefixed("_orig_mod."),
    "nested prefixes": _prefixed("model.encoder.module."),
    "prefixed, but not the head": lambda w: {k if k.startswith("fc.") else f"backbone.{k}": v for k, v in w.items()},
    "head named linear": _renamed_head("linear."),
    "head in a sequential": _renamed_head("classifier.1."),
    "wrapped in state_dict": lambda weights: {"state_dict": weights, "best_prec1": 91.7},
    "wrapped in model": lambda weights: {"model": weights, "optimizer": {"state": {}}, "epoch": 3},
    "wrapped twice": lambda weights: {"model": {"state_dict": weights}},
    "ema before model": lambda weights: {"model": _zeros(weights), "ema": weights, "config": {}},
    "no ema": lambda weights: {"model": weights, "ema": None, "config": {}},
    "averaged": lambda weights: {"ema": _averaged(weights), "model": _zeros(weights)},
    "without batch counters": lambda w: {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")},
    "double precision": lambda w: {k: v.double() if v.is_floating_point() else v for k, v in w.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_the_same_weights(form: str, weights: Weights, path: Path) -> None:
    config = _saved(FORMS[form](weights), path)
    before = torch.get_rng_state()
    check_pretrained(config)
    assert torch.equal(torch.get_rng_state(), before)
    loaded = build_model(config, 10).state_dict()
    assert list(loaded) == list(weights)
    for name, value in loaded.items():
        assert torch.equal(value, weights[name]), name


def test_old_file_format_loads(weights: Weights, path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert torch.equal(head(build_model(_at(path), 10)).weight, weights["fc.weight"])


@pytest.mark.parametrize("classes", [2, 100])
def test_a_head_of_other_classes_is_replaced_by_a_fresh_one(classes: int, weights: Weights, path: Path) -> None:
    config = _saved(_renamed_head("linear.")(weights), path)
    torch.manual_seed(5)
    fresh = head(build_network(config, classes)).weight
    torch.manual_seed(5)
    model = build_model(config, classes)
    assert torch.equal(head(model).weight, fresh)
    assert torch.equal(model.get_parameter("conv1.weight"), weights["conv1.weight"])


def test_a_missing_head_is_fresh_and_a_missing_bias_zero(path: Path) -> None:
    network = TorchvisionResNet(depth=18)  # whose fresh bias is random
    weights = build_network(network, 10).state_dict()
    torch.save(_headless(weights), path)
    assert head(build_model(_at(path, network), 10)).bias.std() > 0
    torch.save({**_headless(weights), "fc.weight": weights["fc.weight"]}, path)
    model = build_model(_at(path, network), 10)
    assert torch.equal(head(model).weight, weights["fc.weight"])
    assert not head(model).bias.any()


@pytest.mark.parametrize("config", [CifarResNet(), TorchvisionResNet(), SyntheticCurve()], ids=lambda c: c.kind)
def test_without_pretrained_weights_there_is_nothing_to_check(config: Model) -> None:
    check_pretrained(config)
    assert pretrained_scale(config, IMAGES, OWN) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: {k: v for k, v in w.items() if not k.startswith("layer2.")}, "missing: layer2.0.conv1.weight, "),
        (lambda w: {**w, "layer4.0.conv1.weight": torch.zeros(1)}, "unexpected: layer4.0.conv1.weight)"),
        (
            lambda w: {**w, "conv1.weight": torch.zeros(16, 3, 7, 7)},
            "of another shape: conv1.weight [16, 3, 7, 7] for [16, 3, 3, 3]",
        ),
        (lambda w: {**w, "bn1.bias": torch.full((16,), float("nan"))}, "not finite numbers: bn1.bias"),
        (lambda w: {**w, "bn1.bias": torch.zeros(16, dtype=torch.complex64)}, "not finite numbers: bn1.bias"),
        (lambda w: {**w, "bn1.bias": torch.zeros(16).to_sparse()}, "not finite numbers: bn1.bias"),
        (lambda _: {"weights": [], "epoch": 3}, "must hold a state dict, tensors by name: none, in it: weights, epoch"),
        (lambda w: list(w.values()), "must hold a state dict"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[Weights], object], named: str, weights: Weights, path: Path
) -> None:
    assert named in _message(_saved(change(weights), path))


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (CifarResNet(depth=14), "layer1.1.conv1.weight, layer1.1.bn1.weight, layer1.1.bn1.bias and "),
        (CifarResNet(depth=8, norm="group"), "unexpected: bn1.running_mean"),
        (TorchvisionResNet(depth=18), "resnet of depth 18 with batch norm ("),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_weights_of_another_network_are_refused(
    network: CifarResNet | TorchvisionResNet, named: str, weights: Weights, path: Path
) -> None:
    torch.save(weights, path)
    message = _message(_at(path, network))
    assert named in message
    assert "set model.kind, depth, norm" in message


class _Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_a_hostile_pickle_runs_no_code(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "code-ran"
    path.write_bytes(pickle.dumps({"state_dict": _Hostile(trace)}, protocol=2))
    assert "a pickle that would run posix.mkdir, as a malicious file does" in _message(_at(path))
    for legacy in (False, True):
        torch.save({"model": _Hostile(trace)}, path, _use_new_zipfile_serialization=legacy)
        assert "would run posix.mkdir" in _message(_at(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Hostile(trace)))
    assert trace.exists()  # unprotected, it would have run


def test_no_such_file_and_a_text(tmp_path: Path) -> None:
    assert "there is none" in _message(_at(tmp_path / "absent.pt"))
    assert "an address: download it first" in _message(_at(Path("https://host/w.pth")))
    assert "readable file" in _message(_at(tmp_path / ("x" * 300)))
    (tmp_path / "text.pt").write_text("weights")
    assert "a text ('weights')" in _message(_at(tmp_path / "text.pt"))


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_checkpoint_is_one_clear_error(data: st.DataObject, weights: Weights, path: Path) -> None:
    buffer = io.BytesIO()
    content = {"model": weights, "config": {"a": [1, 2.5, None]}}
    torch.save(content, buffer, _use_new_zipfile_serialization=data.draw(st.booleans()))
    path.write_bytes(data.draw(damaged(buffer.getvalue())))
    read_or_refused(lambda: check_pretrained(_at(path)))


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


def test_published_weights_come_from_the_local_copy(torch_home: Path) -> None:
    torch_home.mkdir(parents=True)
    published = build_network(TorchvisionResNet(depth=18), 1000).state_dict()
    torch.save(published, torch_home / "resnet18-f37072fd.pth")
    for name in ("IMAGENET1K_V1", "DEFAULT"):
        config = TorchvisionResNet(depth=18, pretrained=f"torchvision:{name}", frozen_stages=5)
        check_pretrained(config)
        model = build_model(config, 10)
        assert torch.equal(model.get_parameter("layer4.1.conv2.weight"), published["layer4.1.conv2.weight"])
        assert _scale(config) == IMAGENET
    small = TorchvisionResNet(depth=18, pretrained="torchvision:DEFAULT", small_images=True)
    assert (
        "conv1.weight [64, 3, 7, 7] for [64, 3, 3, 3]); it holds a ResNet-18 with an ImageNet stem (7x7); take"
        in _message(small)
    )


def test_unknown_published_weights_list_the_known_ones(torch_home: Path) -> None:
    config = TorchvisionResNet(depth=50, pretrained="torchvision:IMAGENET1K_V9")
    assert "torchvision:IMAGENET1K_V1, torchvision:IMAGENET1K_V2" in _message(config)
    with pytest.raises(ConfigError, match="IMAGENET1K_V2"):
        _scale(config)


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    message = _message(TorchvisionResNet(depth=18, pretrained="torchvision:DEFAULT"))
    assert "must be downloadable" in message
    assert f"put the file at {torch_home / 'resnet18-f37072fd.pth'}" in message
    assert not list(torch_home.iterdir())


CONTENT = b"published weights"


class _Site(BaseHTTPRequestHandler):
    closing: threading.Event

    def do_GET(self) -> None:
        if "absent" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if "stall" in self.path:
            self.closing.wait(20)
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _Site.closing = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    _Site.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_verified_and_cached(site: str, torch_home: Path) -> None:
    name = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
    path = download(f"{site}/{name}")
    assert path == torch_home / name
    assert path.read_bytes() == CONTENT
    assert download(f"http://127.0.0.1:9/{name}") == path  # not asked for again


@pytest.mark.parametrize(
    ("name", "reason"),
    [("net-00000000.pth", "hash"), ("absent-00000000.pth", "404"), ("stall-00000000.pth", "timed out")],
)
def test_a_failed_download_leaves_nothing(
    name: str, reason: str, site: str, torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "NETWORK_TIMEOUT", 0.5)
    with pytest.raises(ConfigError, match=reason):
        download(f"{site}/{name}")
    assert not list(torch_home.iterdir())


def test_our_checkpoints_record_their_normalization_and_a_malformed_one_is_named(weights: Weights, path: Path) -> None:
    ours = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    config = _saved({"model": weights, "normalization": ours.model_dump(mode="json")}, path)
    assert _scale(config) == ours
    assert _scale(_saved(weights, path)) != ours
    assert _scale(_saved({"state_dict": weights}, path)) == _scale(_saved(weights, path))

    config = _saved({"model": weights, "normalization": {"mean": [0.5, 0.5], "std": [0.2, 0.2, 0.0]}}, path)
    with pytest.raises(ConfigError) as caught:
        _scale(config)
    assert {problem.path.partition(":")[0] for problem in caught.value.problems} == {"model.pretrained"}
    assert "std.2" in str(caught.value)
    with pytest.raises(ConfigError, match="there is none"):
        _scale(_at(path.with_name("absent")))
