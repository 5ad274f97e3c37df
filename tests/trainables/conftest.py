"""Image folders that several test files prepare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainables.image_files import write_folder


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Small alike images of three classes, no splits of their own."""
    return f"imagefolder:{write_folder(tmp_path_factory.mktemp('pets'), {'ant': 40, 'bee': 30, 'cat': 20})}"


@pytest.fixture(scope="session")
def snaps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Enough larger images of two sizes to be caught while they are prepared."""
    folder = write_folder(tmp_path_factory.mktemp("snaps"), {"day/wide": 120, "night": 110}, 360, 240, "jpg")
    write_folder(folder, {"day/high": 10}, 240, 360, "jpg")
    return f"imagefolder:{folder}"


@pytest.fixture(scope="session")
def photos(data_dir: Path) -> str:
    """Real photographs of many sizes."""
    return f"imagefolder:{data_dir}/hymenoptera"
