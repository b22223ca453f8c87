"""The labelled images, and the rules on which of them may be used for training."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("benign", "malignant")
# The sample images of the upstream project: reserved for demonstration, never used for training or metrics.
DEMO_GROUPS = frozenset({"29315", "19979"})
LABELLED = ("breakhis", "breakhis-tile", "ucsb")


class LeakError(ValueError):
    """Images of one group are on both sides of a split, or a demonstration group would be used for training."""


@dataclass(frozen=True)
class Sample:
    """One labelled image. ``label`` is 0 (benign) or 1 (malignant); ``group`` is a patient, the unit of every split."""

    path: Path
    name: str
    dataset: str
    label: int
    subtype: str
    group: str
    magnification: str


def default_data() -> Path:
    return Path(os.environ.get("HISTOPATH_DATA", "../shared/data"))


def default_weights() -> Path:
    return Path(os.environ.get("HISTOPATH_WEIGHTS", "../shared/weights"))


def read_index(root: Path, datasets: Iterable[str] = LABELLED) -> list[Sample]:
    """The benign and malignant images listed in ``root/index.csv``, in its order, without demonstration groups.

    Raises FileNotFoundError if the index is missing.
    """
    wanted = set(datasets)
    with open(root / "index.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] in wanted and row["label"] in CLASSES]
    samples = [
        Sample(
            path=root / row["path"],
            name=row["path"],
            dataset=row["dataset"],
            label=CLASSES.index(row["label"]),
            subtype=row["subtype"],
            group=row["group"],
            magnification=row["magnification"],
        )
        for row in rows
        if row["group"] not in DEMO_GROUPS
    ]
    assert_no_demo(samples)
    return samples


def read_demo(root: Path) -> list[Sample]:
    """The demonstration images. No model is trained on them; they serve to compare runtimes, not for metrics."""
    with open(root / "index.csv", newline="", encoding="utf-8") as file:
        return [
            Sample(root / row["path"], row["path"], "demo", CLASSES.index(row["label"]), row["subtype"], row["group"],
                   row["magnification"])
            for row in csv.DictReader(file)
            if row["dataset"] == "demo"
        ]  # fmt: skip


def read_auxiliary(root: Path, each: int = 2, seed: int = 0) -> list[Sample]:
    """``each`` random IDC patches per patient and label; label 1 is invasive carcinoma.

    Negative patches show other tissue of a patient with cancer, not benign disease. They are therefore used for
    training but not for metrics. Empty if the index has none.
    """
    cells: dict[tuple[str, str], list[str]] = {}
    with open(root / "index.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dataset"] == "idc":
                cells.setdefault((row["group"], row["label"]), []).append(row["path"])
    random = np.random.default_rng(seed)
    return [
        Sample(root / paths[i], paths[i], "idc", int(label == "idc-positive"), "", f"idc-{group}", "unknown")
        for (group, label), paths in sorted(cells.items())
        for i in random.permutation(len(paths))[:each]
    ]


def assert_no_demo(samples: Sequence[Sample]) -> None:
    """Raises LeakError if a demonstration group is among the samples."""
    found = {sample.group for sample in samples} & DEMO_GROUPS
    if found:
        raise LeakError(f"demonstration groups can't be used for training: {sorted(found)}")


def assert_disjoint(training: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Raises LeakError if a group is on both sides."""
    shared = {sample.group for sample in training} & {sample.group for sample in test}
    if shared:
        raise LeakError(f"groups on both sides of a split: {sorted(shared)}")


def read_rgb(path: Path) -> np.ndarray:
    """Pixels of a training image, uint8 (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
