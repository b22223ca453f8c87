"""The BACH set, with a small folder of the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from inference.learning import bach
from inference.learning.folds import assign_folds


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for folder in bach.FOLDERS:
        (tmp_path / "Photos" / folder).mkdir(parents=True)
        for number in range(1, 3):
            rgb = np.array([190, 100, 170]) + random.integers(-60, 60, (300, 400, 1))
            name = f"{folder.lower()[:2]}{number:03}.tif"
            Image.fromarray(rgb.astype(np.uint8)).save(tmp_path / "Photos" / folder / name)
        (tmp_path / "Photos" / folder / "Thumbs.db").write_bytes(b"x")
    return tmp_path


def test_labels_and_groups(tree: Path) -> None:
    samples = bach.read_bach(tree)
    assert [(one.subtype, one.label) for one in samples[::2]] == list(bach.FOLDERS.items())
    assert len(samples) == 8 and len({one.group for one in samples}) == 8
    assert samples == bach.read_bach(tree / "Photos")
    assert len(assign_folds(samples)) == 8


def test_another_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="not the BACH set"):
        call_command("evaluate", bach=tmp_path)
    with pytest.raises(CommandError, match="not the BACH set"):
        call_command("train", bach=tmp_path, out=tmp_path / "out", weights=str(tmp_path))


def test_evaluate_reports_metrics_of_a_checkpoint(
    tree: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("evaluate", bach=tree, checkpoint=random_checkpoint, replicates=10)
    out = capsys.readouterr().out
    assert "8 images" in out and "auc:" in out
    assert "Invasive: 2 images, 0 out of domain" in out
