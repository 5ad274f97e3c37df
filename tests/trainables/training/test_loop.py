from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.image_files import write_folder
from tests.trainables.trainable_suite import Build, TrainableSuite, numbers, outcome, train_in_legs
from trainables.augment.batch import Batch
from trainables.checkpoints.checkpoint import save_checkpoint
from trainables.config import ConfigError, TrialConfig, merge, parse_config
from trainables.data.images import load_splits
from trainables.models import build_model
from trainables.prediction.scoring import outputs
from trainables.synthetic import SyntheticRun
from trainables.training.evaluation import score
from trainables.training.loop import Run
from trainables.training.weights import normalization_for

DIGITS: dict[str, Any] = {
    "model": {"kind": "cifar_resnet", "depth": 8},
    "data": {"source": "digits", "train_samples": 256, "val_samples": 100, "train_eval_samples": 64},
    "augment": {"pad_crop": 0.125, "rotation": 10.0, "cutout": 0.25, "mixup": 0.2, "color_jitter": 0.2},
    "optimizer": {"kind": "sgd", "lr": 0.05, "nesterov": True, "weight_decay": 5e-4},
    "schedule": {"kind": "cosine", "warmup": 0.1},
    "batch_size": 32,
    "epochs": 4,
    "execution": {"device": "cpu", "threads": 1, "memory_format": "contiguous"},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(tree: dict[str, Any], cache: Path) -> Run:
    config = parse_config(tree)
    return Run(config, load_splits(config.data, cache))


class TestRun(TrainableSuite):
    @pytest.fixture
    def tree(self) -> dict[str, Any]:
        return DIGITS

    @pytest.fixture
    def build(self, cache: Path) -> Build:
        return lambda config: Run(config, load_splits(config.data, cache))


class TestRunWithEverythingOn(TestRun):
    @pytest.fixture
    def tree(self) -> dict[str, Any]:
        more = {
            "model": {"dropout": 0.2},
            "optimizer": {"kind": "adamw", "lr": 0.01, "decay_norm_and_bias": False, "backbone_lr_ratio": 0.5},
            "augment": {"cutmix": 1.0, "policy": "trivialaugment", "padding": "reflect", "first_scale": 0.5},
            "loss": "bce",
            "schedule": {"kind": "plateau", "patience": 0, "factor": 0.5},
            "regularization": {
                "ema_decay": 0.9, "clip_norm": 1.0, "label_smoothing": 0.1, "imbalance": "balanced_sampling",
            },
        }  # fmt: skip
        return merge(DIGITS, more)


class TestSyntheticRun(TrainableSuite):
    @pytest.fixture
    def tree(self) -> dict[str, Any]:
        return {"model": {"kind": "synthetic", "seconds_per_epoch": 0.051}, "epochs": 4}

    @pytest.fixture
    def build(self) -> Build:
        return SyntheticRun


@pytest.mark.numeric
def test_it_learns(cache: Path) -> None:
    *_, last = run(merge(DIGITS, {"data": {"train_samples": None}, "augment": {"strength": 0.3}}), cache).epochs()
    assert last.val_accuracy > 0.9
    assert last.train_accuracy > 0.9


@pytest.mark.numeric
def test_a_reused_process_computes_what_a_fresh_one_does(cache: Path, tmp_path: Path) -> None:
    used = run(merge(DIGITS, {"seed": 7, "model": {"depth": 14}, "optimizer": {"kind": "adamw", "lr": 1e-3}}), cache)
    next(used.epochs())
    reused = [numbers(r) for r in run(DIGITS, cache).epochs()]
    program = (
        "import json, sys; from pathlib import Path; from trainables.config import parse_config;"
        "from trainables.data.images import load_splits; from trainables.training.loop import Run;"
        "from tests.trainables.trainable_suite import numbers;"
        "c = parse_config(json.loads(sys.argv[1]));"
        "print(json.dumps([numbers(r) for r in Run(c, load_splits(c.data, Path(sys.argv[2]))).epochs()]))"
    )
    root = Path(__file__).parents[3]
    fresh = subprocess.run(
        [sys.executable, "-c", program, json.dumps(DIGITS), str(cache)],
        capture_output=True, text=True, check=True, cwd=root,
    )  # fmt: skip
    assert json.loads(fresh.stdout.splitlines()[-1]) == reused


def test_divergence_ends_the_run_at_once(cache: Path) -> None:
    results = list(run(merge(DIGITS, {"optimizer": {"lr": 1e30}}), cache).epochs())
    assert len(results) == 1
    assert results[0].last
    assert results[0].stop_reason == "diverged"


def test_a_network_that_is_of_no_use_is_told(cache: Path) -> None:
    still = merge(DIGITS, {"optimizer": {"lr": 1e-30}, "epochs": 1})
    blind = run(still, cache)
    for parameter in blind.network.fc.parameters():
        torch.nn.init.zeros_(parameter)
    blind.network.fc.bias.data[3] = 1.0
    [result] = blind.epochs()
    assert (result.collapsed, result.report and result.report.predicted_share) == ("one class", 1.0)
    *_, exploded = run(merge(DIGITS, {"optimizer": {"lr": 300.0}, "schedule": {"warmup": 0.0}}), cache).epochs()
    assert exploded.collapsed == "rising loss" or exploded.stop_reason == "diverged"
    *_, healthy = run(DIGITS, cache).epochs()
    assert healthy.collapsed is None


def test_metrics_with_ema_are_the_averaged_weights(cache: Path) -> None:
    trial = run(merge(DIGITS, {"regularization": {"ema_decay": 0.999}}), cache)
    next(trial.epochs())
    state = trial.state_dict()
    assert trial.model is not trial._model
    assert any(not torch.equal(state["model"][name], state["ema"][name]) for name in state["model"])


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_patience_leaves_the_best_epochs_weights(decay: float, cache: Path, tmp_path: Path) -> None:
    # The rate lets val_loss rise after the first epochs.
    more: dict[str, Any] = {"optimizer": {"lr": 1.0}, "schedule": {"kind": "constant", "warmup": 0.0}, "epochs": 60}
    tree = merge(DIGITS, {**more, "regularization": {"ema_decay": decay, "patience": 2}})
    build: Build = lambda config: Run(config, load_splits(config.data, cache))  # noqa: E731
    points, trial = train_in_legs(build, parse_config(tree), [20], tmp_path)
    results = [point for point in points if point is not None]
    last, best = results[-1], min(results, key=lambda result: result.val_loss)
    assert last.best_epoch == best.epoch == last.epoch - 2
    state, splits = trial.state_dict(), load_splits(parse_config(tree).data, cache)
    logits, labels, *_ = outputs(parse_config(tree), state, splits.val, splits.store)
    scores = score(logits, labels)
    assert (scores.loss, scores.accuracy) == pytest.approx((best.val_loss, best.val_accuracy), rel=1e-5)
    assert last.report is not None
    assert sum(last.report.right) / sum(last.report.images) == pytest.approx(best.val_accuracy)
    assert state["best"] is None
    # One that trains all its epochs before its patience is used up leaves the best, too.
    *_, last = run({**tree, "epochs": best.epoch + 1}, cache).epochs()
    assert (last.stop_reason, last.best_epoch) == ("epochs", best.epoch)


def test_an_unfinished_runs_best_weights_do_not_hide_its_own(cache: Path, tmp_path: Path) -> None:
    trial = run(merge(DIGITS, {"regularization": {"patience": 2}}), cache)
    next(trial.epochs())
    state = trial.state_dict()
    state["best"]["weights"] = {name: tensor + 1 for name, tensor in state["best"]["weights"].items()}
    save_checkpoint(state, tmp_path / "c.pt")
    pretrained = parse_config(merge(DIGITS, {"model": {"pretrained": str(tmp_path / "c.pt")}})).model
    loaded = build_model(pretrained, 10).state_dict()
    assert all(torch.equal(tensor, state["model"][name]) for name, tensor in loaded.items())


def test_a_checkpoint_from_before_best_weights_were_kept_is_refused(cache: Path) -> None:
    trial = run(merge(DIGITS, {"regularization": {"patience": 2}}), cache)
    next(trial.epochs())
    state = trial.state_dict()
    del state["best"]
    with pytest.raises(ConfigError, match=r"must hold the state of this trial .*'best'"):
        run(merge(DIGITS, {"regularization": {"patience": 2}}), cache).load_state_dict(state)
    run(DIGITS, cache).load_state_dict(state)  # without patience none are needed


def test_val_loss_is_plain_cross_entropy_whatever_the_training_loss_is(cache: Path) -> None:
    # With a vanishing learning rate both runs score the same untrained weights.
    still: dict[str, Any] = {"optimizer": {"lr": 1e-30}, "augment": {"strength": 0.0}}
    plain = next(run(merge(DIGITS, still), cache).epochs())
    smoothed = next(
        run(
            merge(DIGITS, still | {"regularization": {"label_smoothing": 0.4, "imbalance": "class_weights"}}), cache
        ).epochs()
    )
    assert smoothed.val_loss == plain.val_loss
    assert smoothed.train_loss != plain.train_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weighted_loss_is_the_weighted_mean_of_torch(smoothing: float, cache: Path) -> None:
    regularization = {"imbalance": "class_weights", "label_smoothing": smoothing}
    trial = run(merge(DIGITS, {"data": {"train_samples": 101}, "regularization": regularization}), cache)
    trial._class_weights = torch.rand(10, generator=torch.Generator().manual_seed(0)) + 0.1
    logits, labels = torch.randn(8, 10), torch.arange(8)
    theirs = torch.nn.CrossEntropyLoss(weight=trial._class_weights, label_smoothing=smoothing)
    assert torch.isclose(trial.loss(logits, Batch(logits, labels)), theirs(logits, labels))
    mixed = Batch(logits, labels, labels.flip(0), torch.full((8,), 0.3))
    expected = 0.3 * theirs(logits, labels) + 0.7 * theirs(logits, labels.flip(0))
    assert torch.isclose(trial.loss(logits, mixed), expected)


@pytest.mark.numeric
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_timms(smoothing: float, cache: Path) -> None:
    from timm.loss import BinaryCrossEntropy

    trial = run({**DIGITS, "loss": "bce", "regularization": {"label_smoothing": smoothing}}, cache)
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(32, 10, generator=generator), torch.randint(10, (32,), generator=generator)
    theirs = BinaryCrossEntropy(smoothing=smoothing)
    images = torch.zeros(32, 3, 8, 8)
    assert trial.loss(logits, Batch(images, labels)).item() == pytest.approx(theirs(logits, labels).item())
    mixed = Batch(images, labels, labels.flip(0), torch.full((32,), 0.3))
    expected = 0.3 * theirs(logits, labels) + 0.7 * theirs(logits, labels.flip(0))
    assert trial.loss(logits, mixed).item() == pytest.approx(expected.item())


def test_alternating_flips_show_each_image_both_ways_in_two_epochs(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 8, "b": 8})
    tree = {
        **DIGITS, "data": {"source": f"imagefolder:{tmp_path / 'images'}", "resolution": 16},
        "augment": {"flip": True, "flip_order": "alternating"}, "batch_size": 1, "epochs": 2,
    }  # fmt: skip
    trial, seen = run(tree, tmp_path / "cache"), list[list[torch.Tensor]]()
    while len(seen) < 2:
        trial.begun_epoch()
        seen.append([])
        while trial.steps_left:
            batch = trial.next_batch()
            seen[-1].append(batch.images[0].clone())
            trial.train_on(batch)
        next(trial.steps())
    assert len(seen[0]) > 5
    for image in seen[0]:
        assert sum(torch.allclose(image.flip(2), other) for other in seen[1]) >= 1


def test_images_grow_during_the_run_and_are_whole_in_validation(cache: Path) -> None:
    tree = merge(DIGITS, {"data": {"resolution": 16}, "augment": {"strength": 1.0, "first_scale": 0.5}, "epochs": 5})
    trial, sides = run(tree, cache), []
    for _ in range(5):
        batch = trial.next_batch()
        sides.append(batch.images.shape[-1])
        trial.train_on(batch)
        while next(trial.steps()) is None:
            pass
    assert sides == [8, 8, 12, 16, 16]
    assert trial.next_batch(scale=1.0).images.shape[-1] == 16


@pytest.mark.numeric
def test_bf16_trains_and_stays_close(cache: Path) -> None:
    half = list(run(merge(DIGITS, {"execution": {"precision": "bf16"}}), cache).epochs())
    full = list(run(merge(DIGITS, {"execution": {"precision": "fp32"}}), cache).epochs())
    assert half[-1].train_loss != full[-1].train_loss
    assert half[-1].train_loss == pytest.approx(full[-1].train_loss, abs=0.3)


def test_a_smaller_training_set_than_a_batch_still_trains(cache: Path) -> None:
    result = next(run(merge(DIGITS, {"batch_size": 4096}), cache).epochs())
    assert result.images_per_second > 0


def test_normalization_is_given_or_measured(cache: Path) -> None:
    given = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    splits = load_splits(parse_config(DIGITS).data, cache)
    config = parse_config({"data": {"normalize": given}})
    assert normalization_for(config, splits.train, splits.store).model_dump(mode="json") == given
    assert normalization_for(TrialConfig(), splits.train, splits.store).mean == splits.store.mean


def test_resolution_changes_what_the_model_sees(cache: Path) -> None:
    trial = run(merge(DIGITS, {"data": {"resolution": 16}, "epochs": 1}), cache)
    seen: list[torch.Size] = []
    trial._model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    list(trial.epochs())
    assert {tuple(shape[-2:]) for shape in seen} == {(16, 16)}


def test_an_interrupted_epoch_took_the_time_of_its_parts(cache: Path) -> None:
    trial = run(DIGITS, cache)
    assert next(trial.steps()) is None
    state = trial.state_dict()
    state["partial_epoch"]["seconds"] = 1000.0
    resumed = run(DIGITS, cache)
    resumed.load_state_dict(state)
    first, second, *_ = resumed.epochs()
    assert first.seconds > 1000
    assert first.images_per_second < 256 / 1000
    assert second.seconds < 1000


def test_two_trials_that_take_turns_compute_what_each_does_alone(cache: Path) -> None:
    trees = [merge(DIGITS, {"model": {"dropout": 0.5}, "epochs": 1, "seed": seed}) for seed in (0, 1)]
    alone = [[numbers(result) for result in run(tree, cache).epochs()] for tree in trees]
    *_, last = zip(*(run(tree, cache).steps() for tree in trees), strict=True)
    assert [[numbers(result)] for result in last] == alone


def test_crops_of_image_files_are_the_same_when_interrupted(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "photos", {"day": 60, "night": 60}, 120, 90, "jpg")
    tree = {
        **DIGITS, "epochs": 2, "data": {"source": f"imagefolder:{source}", "resolution": 16},
        "augment": {"resized_crop": 0.3, "flip": True, "policy": "randaugment"},
    }  # fmt: skip
    build: Build = lambda config: Run(config, load_splits(config.data, tmp_path / "cache"))  # noqa: E731
    straight, _ = train_in_legs(build, parse_config(tree), [], tmp_path)
    points, _ = train_in_legs(build, parse_config(tree), [1, 4], tmp_path)
    assert [outcome(point) for point in points] == [outcome(point) for point in straight]
    whole = build(parse_config(merge(tree, {"augment": {"resized_crop": 1.0}})))
    assert outcome(next(whole.epochs())) not in [outcome(point) for point in straight]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_within_an_epoch_never_wait_for_the_gpu(cache: Path) -> None:
    steps = run(merge(DIGITS, {"model": {"dropout": 0.5}, "execution": {"device": "cuda"}}), cache).steps()
    assert [next(steps) for _ in range(3)] == [None, None, None]  # the first ones choose kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert [next(steps) for _ in range(4)] == [None, None, None, None]
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dropout_on_the_gpu_continues_where_it_was_interrupted(cache: Path, tmp_path: Path) -> None:
    # With a vanishing learning rate the masks alone make the training loss.
    tree = merge(
        DIGITS, {"model": {"dropout": 0.9}, "optimizer": {"lr": 1e-30}, "epochs": 1, "execution": {"device": "cuda"}}
    )
    straight = next(run(tree, cache).epochs())
    points, _ = train_in_legs(lambda c: Run(c, load_splits(c.data, cache)), parse_config(tree), [3, 5], tmp_path)
    resumed = points[-1]
    assert resumed is not None
    assert resumed.train_loss == pytest.approx(straight.train_loss, rel=1e-4)
    [other] = run(merge(tree, {"seed": 1}), cache).epochs()
    assert other.train_loss != pytest.approx(straight.train_loss, rel=1e-4)
