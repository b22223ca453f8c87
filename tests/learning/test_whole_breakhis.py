"""Training and evaluation on the official BreakHis layout, with real fields and ImageNet weights."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from django.core.management import call_command
from PIL import Image

from inference.engine.checkpoint import read_metadata
from inference.engine.runtime import load
from inference.learning.dataset import DEMO_GROUPS
from tests.conftest import ROOT

WEIGHTS = Path(os.environ.get("HISTOPATH_WEIGHTS", ROOT.parent / "shared" / "weights"))
EACH = 2


@pytest.fixture(scope="module")
def tree(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fields of every slide of the labelled images, in the layout of BreakHis, with fold files."""
    root = tmp_path_factory.mktemp("breakhis")
    taken: dict[str, int] = {}
    rows: list[tuple[str, str, str]] = []
    with open(data / "index.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            slide = row["patient"]
            if row["dataset"] != "breakhis" or row["group"] in DEMO_GROUPS or taken.get(slide, 0) == EACH:
                continue
            taken[slide] = number = taken.get(slide, 0) + 1
            kind, magnification = row["label"][0].upper(), row["magnification"].removesuffix("X")
            year, _, rest = slide.partition("-")
            folder = root / row["label"] / "SOB" / "any" / f"SOB_{kind}_{row['subtype']}_{slide}" / f"{magnification}X"
            folder.mkdir(parents=True, exist_ok=True)
            name = f"SOB_{kind}_{row['subtype']}-{year}-{rest}-{magnification}-{number:03}.png"
            with Image.open(data / row["path"]) as image:
                image.convert("RGB").save(folder / name)
            rows.append((name, magnification, row["group"]))
    groups = sorted({group for *_, group in rows})
    for fold in range(1, 3):
        test = set(groups[fold::4])
        lines = [f"{n}|{m}|{fold}|{'test' if g in test else 'train'}" for n, m, g in rows]
        (root / f"dsfold{fold}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.slow
def test_train_and_evaluate_on_the_official_tree(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not WEIGHTS.is_dir():
        pytest.skip(f"no ImageNet weights at {WEIGHTS} (set HISTOPATH_WEIGHTS)")
    out = tmp_path / "out"
    call_command("train", breakhis=tree, weights=WEIGHTS, out=out)
    (checkpoint,) = out.glob("*.safetensors")
    metadata, _ = read_metadata(checkpoint)
    assert metadata.calibrated
    assert set(metadata.training["data"]) == {"breakhis"}
    assert (out / "predictions.csv").exists() and (out / "learning.json").exists()
    assert load(checkpoint, "fp32").metadata == metadata
    capsys.readouterr()

    call_command("evaluate", breakhis=tree, folds=tree, weights=WEIGHTS, out=out)
    text = capsys.readouterr().out
    assert "dsfold1" in text and "dsfold2" in text
    assert "patient rate" in text and "100X" in text

    call_command("evaluate", breakhis=tree, checkpoint=checkpoint)
    assert "left out: the model was trained on their patients" in capsys.readouterr().out
