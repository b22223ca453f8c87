"""The full BreakHis set as published by its authors, and their fold files.

Spanhol et al., *A Dataset for Breast Cancer Histopathological Image Classification*, IEEE TBME 2016.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.learning.calibration import apply_platt
from inference.learning.crossval import Patches, choose, predict
from inference.learning.dataset import CLASSES, DEMO_GROUPS, Sample, assert_disjoint

#: SOB_B_TA-14-4659-40-001.png: procedure _ class _ type - year - slide - magnification - number.
NAME = re.compile(r"^SOB_([BM])_([A-Z]+)-(\d+)-(\d+)([A-Z]*)-(40|100|200|400)-(\d+)\.png$")
MAGNIFICATIONS = ("40X", "100X", "200X", "400X")


class TreeError(ValueError):
    """A folder or fold file differs from BreakHis as published; the message says where."""


@dataclass(frozen=True)
class FoldRow:
    """One row of a fold file: image name, magnification (``40X``...), and whether it is a training image."""

    name: str
    magnification: str
    training: bool


def parse_name(name: str) -> tuple[int, str, str, str]:
    """Label (0 benign, 1 malignant), subtype, slide number and magnification from a file name. Raises TreeError.

    The slide number without its letters is the group, because slides 14-22549AB and 14-22549CD may be of one patient.
    """
    match = NAME.match(name)
    if not match:
        raise TreeError(f"{name} is not a BreakHis file name")
    letter, subtype, _, number, _, magnification, _ = match.groups()
    return "BM".index(letter), subtype, number, f"{magnification}X"


def read_tree(root: Path, keep_demo: bool = False) -> list[Sample]:
    """All images under ``root`` (any folder above ``benign`` and ``malignant``), sorted by path.

    The demonstration groups are excluded unless ``keep_demo``. Raises TreeError for another layout or without images.
    """
    samples = []
    for path in sorted(root.rglob("SOB_*.png")):
        label, subtype, number, magnification = parse_name(path.name)
        if CLASSES[label] not in path.parts:
            raise TreeError(f"{path} is not in a folder {CLASSES[label]}")
        if number in DEMO_GROUPS and not keep_demo:
            continue
        samples.append(Sample(path, path.name, "breakhis", label, subtype, number, magnification))
    if not samples:
        raise TreeError(f"no BreakHis image (SOB_*.png) under {root}")
    doubled = [name for name, count in Counter(sample.name for sample in samples).items() if count > 1]
    if doubled:
        raise TreeError(f"{doubled[0]} exists twice under {root}")
    return samples


def read_fold(path: Path) -> list[FoldRow]:
    """Rows ``name|magnification|fold|train or test`` of ``dsfold1.txt`` ... ``dsfold5.txt``. Raises TreeError."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 4 or parts[3] not in ("train", "test") or f"{parts[1]}X" not in MAGNIFICATIONS:
            raise TreeError(f"{path.name} line {number} is not a row of a fold file: {line[:80]}")
        parse_name(parts[0])
        rows.append(FoldRow(parts[0], f"{parts[1]}X", parts[3] == "train"))
    if not rows:
        raise TreeError(f"{path.name} is empty")
    return rows


def split(
    samples: Sequence[Sample], rows: Sequence[FoldRow], say: Callable[[str], None] = print
) -> tuple[list[int], list[int]]:
    """Indices (training, test) of a fold. Raises TreeError if either is empty.

    Slide 14-13412 has two subtypes and may be on both sides. Training images of a test group are dropped and reported,
    so that no patient is in both sets. Images that are missing from the folder are reported, too.
    """
    index = {sample.name: i for i, sample in enumerate(samples)}
    absent = sum(row.name not in index for row in rows)
    if absent:
        say(f"{absent} of {len(rows)} images in the fold file are missing from the folder")
    test = [index[row.name] for row in rows if not row.training and row.name in index]
    held = {samples[i].group for i in test}
    training: list[int] = []
    dropped: list[int] = []
    for row in rows:
        if row.training and row.name in index:
            (dropped if samples[index[row.name]].group in held else training).append(index[row.name])
    for group, count in sorted(Counter(samples[i].group for i in dropped).items()):
        say(f"dropped {count} training images of group {group}, which is a test patient")
    if not training or not test:
        raise TreeError("the fold has no training images or no test images in the folder")
    return training, test


def on_official_folds(
    samples: Sequence[Sample],
    files: Sequence[Path],
    training: Patches,
    grid: Patches,
    say: Callable[[str], None] = print,
) -> list[list[dict[str, object]]]:
    """The published table for every fold file, with the frozen recipe fitted to its training images."""
    tables = []
    for file in files:
        known, held = split(samples, read_fold(file), say)
        assert_disjoint([samples[i] for i in known], [samples[i] for i in held])
        chosen = choose(samples, training.of(np.array(known)), grid.of(np.array(known)))
        images, raw = predict(chosen.head, grid.of(np.array(held)))
        p = apply_platt(raw, chosen.calibration)
        own = [samples[i] for i in images]
        tables.append(published_table([one.label for one in own], p.tolist(), own))
    return tables


def published_table(label: Sequence[int], p: Sequence[float], samples: Sequence[Sample]) -> list[dict[str, object]]:
    """Image-level and patient-level recognition rate by magnification, at p >= 0.5, as in the published tables.

    The patient-level rate is the mean over patients of the share of correct images (Spanhol et al. 2016, eq. 1-2).
    """
    table = []
    for magnification in MAGNIFICATIONS:
        rows = [i for i, sample in enumerate(samples) if sample.magnification == magnification]
        right = {i: (p[i] >= 0.5) == bool(label[i]) for i in rows}
        patients: dict[str, list[bool]] = {}
        for i in rows:
            patients.setdefault(samples[i].group, []).append(right[i])
        shares = [sum(one) / len(one) for one in patients.values()]
        table.append(
            {
                "magnification": magnification,
                "images": len(rows),
                "patients": len(patients),
                "image_rate": sum(right.values()) / len(rows) if rows else None,
                "patient_rate": sum(shares) / len(shares) if shares else None,
            }
        )
    return table
