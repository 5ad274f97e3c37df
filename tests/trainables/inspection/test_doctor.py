"""The data doctor on real images in which faults were planted, and on the same images without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainables.inspection.planted import changed, cifar_rows, copied, mislabelled, write_splits
from trainables.config import parse_config
from trainables.inspection import Inspection, inspect_images
from trainables.inspection.finding import Finding

pytest.importorskip("cleanlab", reason="the extra `doctor` is not installed")
pytest.importorskip("cleanvision", reason="the extra `doctor` is not installed")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def look(source: str, cache: Path, **tree: Any) -> Inspection:
    return inspect_images(parse_config({"data": {"source": source}, **tree}), cache=cache)


def finding(inspection: Inspection, name: str) -> Finding:
    (found,) = (one for one in inspection.findings if one.check.name == name)
    return found


@pytest.fixture(scope="module")
def planted(data_dir: Path, weights_dir: Path, cache: Path) -> tuple[Inspection, set[str], set[str]]:
    """10,000 images of CIFAR-10: 500 files of train are in val too, 500 are there re-encoded, 5 % of train mislabelled.

    Also the names of the re-encoded ones, and of the mislabelled ones.
    """
    rows = cifar_rows(data_dir, 9000)
    chosen = np.random.default_rng(3).permutation(8000).tolist()
    wrong = chosen[1000:1400]
    train = mislabelled(rows[:8000], wrong, classes=10)
    changes = (
        lambda image: image,
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.resize((48, 48), Image.Resampling.BICUBIC).resize((32, 32), Image.Resampling.BICUBIC),
    )
    exact = [copied(rows[number], f"exact/{number}.jpg") for number in chosen[:500]]
    again = [
        changed(rows[number], changes[i % 3], f"again/{number}.jpg", quality=70)
        for i, number in enumerate(chosen[500:1000])
    ]
    source = write_splits(cache / "planted", train=train, val=[*rows[8000:], *exact, *again])
    model = {"kind": "cifar_resnet", "depth": 56, "pretrained": str(weights_dir / "resnet56-4bfd9763.th")}
    names = {f"train.parquet row {number} ({train[number]['img']['path']})" for number in wrong}
    return look(source, cache, model=model), {row["img"]["path"] for row in again}, names


@pytest.mark.slow
def test_planted_twins_across_splits_are_found_and_the_training_copy_is_left_out(
    planted: tuple[Inspection, set[str], set[str]],
) -> None:
    inspection, again, _ = planted
    found = finding(inspection, "duplicates across splits")
    pairs = [(pair["first"], pair["second"]) for pair in found.details["pairs"]]
    ends = {name.partition("(")[2].removesuffix(")") for pair in pairs for name in pair if name.startswith("val")}
    clean = [name for name in ends if not name.startswith(("exact/", "again/"))]
    assert found.check.status == "problem"
    assert sum(name.startswith("exact/") for name in ends) == 500
    assert len(ends & again) >= 480
    assert len(clean) <= 10  # CIFAR-10 has some itself: the page shows them
    assert sum(name.startswith("train") for name in inspection.left_out["copies"]) >= 980
    assert sum(name.startswith("val") for name in inspection.left_out["copies"]) <= 5


@pytest.mark.slow
def test_flipped_labels_are_among_the_suspects_and_the_doctor_knows_how_good_it_is(
    planted: tuple[Inspection, set[str], set[str]],
) -> None:
    inspection, _, wrong = planted
    found = finding(inspection, "wrong labels")
    suspects = set(inspection.left_out["suspects"])
    recall, precision = len(suspects & wrong) / len(wrong), len(suspects & wrong) / len(suspects)
    assert found.check.status == "warning"
    assert recall >= 0.7
    assert precision >= 0.5
    low, high = found.details["estimated_share_interval"]
    assert low <= 0.05
    assert high >= 0.04  # 400 of 10,000
    assert found.details["test"]["recall"] == pytest.approx(recall, abs=0.1)
    assert found.details["test"]["precision_at_least"] <= precision + 0.05


@pytest.mark.slow
def test_real_images_without_a_fault_raise_no_alarm(data_dir: Path, weights_dir: Path, cache: Path) -> None:
    rows = cifar_rows(data_dir, 3000)
    model = {"kind": "cifar_resnet", "depth": 20, "pretrained": str(weights_dir / "resnet20-12fca82f.th")}
    inspection = look(write_splits(cache / "clean", train=rows[:2000], val=rows[2000:]), cache, model=model)
    twins = finding(inspection, "duplicates across splits")
    assert len(twins.details.get("pairs", [])) <= 2
    alarms = {check.name for check in inspection.checks if check.status in ("warning", "problem")}
    assert alarms <= {"duplicates across splits"}
    assert finding(inspection, "wrong labels").check.status == "ok"


@pytest.mark.parametrize("photos_of", ["ants and bees", "CIFAR-10"])
def test_a_validation_set_that_was_made_otherwise_is_named(photos_of: str, data_dir: Path, cache: Path) -> None:
    from trainables.data.sources import open_source
    from trainables.inspection.domain import compare, same_classes
    from trainables.inspection.images import scanned

    if photos_of == "CIFAR-10":
        rows = cifar_rows(data_dir, 1200)
        source = write_splits(cache / "domains", train=rows[:800], val=rows[800:])
    else:
        source = f"imagefolder:{data_dir}/hymenoptera"
    with scanned(open_source(source).contents(cache)) as images:
        train, val = images.of("train"), images.of("val")
        ours, theirs = same_classes(images.labels[train], images.labels[val])
        train, val = images.squeezed[train[ours]], images.squeezed[val[theirs]]
    alike, darker, swapped = compare(train, val), compare(train, val // 2), compare(train, val[:, ::-1])
    assert alike is not None
    assert darker is not None
    assert swapped is not None
    assert not alike.is_another_domain
    assert darker.is_another_domain
    assert swapped.is_another_domain
    assert darker.causes[0].startswith("darker")
    assert "BGR" in swapped.causes[0]
    assert max(darker.left, swapped.left) < 0.6
    both = compare(train, val[:, ::-1] // 2)
    assert both is not None
    assert {cause.split(" ")[0] for cause in both.causes} == {"darker", "in"}


def test_ants_and_bees_raise_no_alarm_and_their_planted_faults_do(data_dir: Path, tmp_path: Path, cache: Path) -> None:
    clean = look(f"imagefolder:{data_dir}/hymenoptera", cache)
    assert [check for check in clean.checks if check.status in ("warning", "problem")] == []
    labels = finding(clean, "wrong labels").check
    assert labels.status == "unknown"  # their pixels do not tell ants from bees
    assert "below 80" in labels.evidence

    for path in sorted((data_dir / "hymenoptera").glob("*/*/*")):
        copy = tmp_path / path.relative_to(data_dir / "hymenoptera")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    bees = sorted((tmp_path / "train/bees").iterdir())
    (tmp_path / "val/bees/copy.jpg").write_bytes(bees[0].read_bytes())
    with Image.open(bees[1]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "val/bees/mirrored.jpg", quality=70)
        image.resize((image.width // 2, image.height // 2)).save(tmp_path / "train/ants/smaller.jpg")
        upside_down = Image.Exif()
        upside_down[0x0112] = 3
        image.rotate(180).save(tmp_path / "train/bees/zzz_turned.jpg", exif=upside_down, quality=95)
    (tmp_path / "train/bees/broken.jpg").write_bytes(bees[2].read_bytes()[:1000])
    for i in range(8):
        Image.new("RGB", (200, 160)).save(tmp_path / f"train/ants/black{i}.png")

    faulty = look(f"imagefolder:{tmp_path}", cache)
    statuses = {check.name: check.status for check in faulty.checks}
    assert statuses["unreadable"] == "problem"
    assert statuses["duplicates across splits"] == "problem"
    assert statuses["contradictory labels"] == "warning"
    assert statuses["appearance"] == "warning"
    assert finding(faulty, "orientation").details["images"] == ["train/bees/zzz_turned.jpg"]
    assert faulty.left_out["unreadable"] == ["train/bees/broken.jpg"]
    assert f"train/bees/{bees[0].name}" in faulty.left_out["copies"]
    assert {"val/bees/mirrored.jpg", "train/ants/smaller.jpg"} <= set(faulty.left_out["contradictory"])
