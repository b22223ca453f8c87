"""The tables of the model card, from stored out-of-fold predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.learning.calibration import decided
from inference.learning.crossval import Prediction
from inference.learning.dataset import DEMO_GROUPS, LeakError
from inference.learning.metrics import NAMES, equal_group_weight, figures, intervals, per_patient

#: Strata with fewer images of a class are listed without metrics.
FEWEST = 20


@dataclass(frozen=True)
class Row:
    """Metrics of one stratum with 95 % intervals; ``values`` and ``bounds`` are empty if it has too few images."""

    dataset: str
    level: str
    benign: int
    malignant: int
    groups: int
    values: dict[str, float]
    bounds: dict[str, tuple[float, float]]


def check_record(predictions: Sequence[Prediction], folds: dict[str, int]) -> None:
    """Raises LeakError for a prediction that was not made in its group's fold, or is of a demonstration group."""
    for one in predictions:
        if one.group in DEMO_GROUPS:
            raise LeakError(f"{one.name} belongs to the demonstration group {one.group}")
        if folds.get(one.group) != one.fold:
            raise LeakError(
                f"{one.name} of group {one.group} was predicted in fold {one.fold}, which did not hold it out"
            )


def read_folds(path: Path) -> dict[str, int]:
    return {str(group): int(fold) for group, fold in json.loads(path.read_text(encoding="utf-8")).items()}


def _arrays(own: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([one.label for one in own], dtype=float),
        np.array([one.p for one in own]),
        np.array([one.group for one in own]),
    )


def _row(dataset: str, level: str, own: Sequence[Prediction], kind: str, replicates: int) -> Row:
    label, p, group = _arrays(own)
    counts = (int((label == 0).sum()), int((label == 1).sum()), len(set(group)))
    if kind == "stratum" and min(counts[:2]) < FEWEST:
        return Row(dataset, level, *counts, {}, {})
    weight = equal_group_weight(label, group) if kind == "group" else None
    if kind == "patient":
        label, p, group = per_patient(label, p, group)
        counts = (int((label == 0).sum()), int((label == 1).sum()), len(set(group)))
    return Row(dataset, level, *counts, figures(label, p, weight), intervals(label, p, group, weight, replicates))


def rows(predictions: Sequence[Prediction], replicates: int = 1000) -> list[Row]:
    """Metrics of each data set: per image, per image with equal group weights, per patient, and by magnification."""
    table = []
    for dataset in sorted({one.dataset for one in predictions}):
        own = [one for one in predictions if one.dataset == dataset]
        table.append(_row(dataset, "image", own, "image", replicates))
        table.append(_row(dataset, "image, groups equal", own, "group", replicates))
        table.append(_row(dataset, "patient", own, "patient", replicates))
        if dataset == "breakhis":
            for magnification in ("40X", "100X", "200X", "400X"):
                part = [one for one in own if one.magnification == magnification]
                if part:
                    table.append(_row(dataset, f"image, {magnification}", part, "stratum", replicates))
    return table


def markdown(table: Sequence[Row]) -> str:
    """The rows as a Markdown table, each figure with its interval."""
    head = ["dataset", "level", "benign / malignant (groups)", *(name.replace("_", " ") for name in NAMES)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table:
        cells = [row.dataset, row.level, f"{row.benign} / {row.malignant} ({row.groups})"]
        for name in NAMES:
            if not row.values:
                cells.append("too few")
            else:
                low, high = row.bounds[name]
                cells.append(f"{row.values[name]:.3f} ({low:.2f}–{high:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Decisions:
    """Definite results of one data set, group-weighted: their share, and the error rates of all, benign and malignant
    results."""

    dataset: str
    decided: float
    error: float
    benign_error: float
    malignant_error: float


def decisions(predictions: Sequence[Prediction]) -> list[Decisions]:
    """Definite results with the thresholds of each fold, which were chosen on its training part."""
    out = []
    for dataset in sorted({one.dataset for one in predictions}):
        own = [one for one in predictions if one.dataset == dataset]
        label, p, group = _arrays(own)
        weight = equal_group_weight(label, group)
        low, high = np.array([one.cut_low for one in own]), np.array([one.cut_high for one in own])
        # Only the side of the fold's thresholds matters, so map the sides to 0, 0.5 and 1.
        side = np.where(p < low, 0.0, np.where(p > high, 1.0, 0.5))
        share, error = decided(side, label, weight, 1 / 3, 2 / 3)

        def wrong(chosen: np.ndarray, opposite: np.ndarray, weight: np.ndarray = weight) -> float:
            total = weight[chosen].sum()
            return float(weight[chosen & opposite].sum() / total) if total else float("nan")

        out.append(Decisions(dataset, share, error, wrong(side == 0, label == 1), wrong(side == 1, label == 0)))
    return out


#: BreakHis's abbreviations.
SUBTYPES = {
    "A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes tumour", "TA": "tubular adenoma",
    "DC": "ductal carcinoma", "LC": "lobular carcinoma", "MC": "mucinous carcinoma", "PC": "papillary carcinoma",
}  # fmt: skip


@dataclass(frozen=True)
class Subtype:
    """One subtype of BreakHis fields, group-weighted: share of correct results at p >= 0.5, and mean probability."""

    name: str
    label: int
    images: int
    groups: int
    right: float
    mean: float


def subtypes(predictions: Sequence[Prediction]) -> list[Subtype]:
    """Metrics by subtype, benign ones first; subtypes without images are left out."""
    out = []
    for code, name in SUBTYPES.items():
        own = [one for one in predictions if one.dataset == "breakhis" and one.subtype == code]
        if own:
            label, p, group = _arrays(own)
            weight = equal_group_weight(label, group)
            right = float(np.average((p >= 0.5) == (label == 1), weights=weight))
            mean = float(np.average(p, weights=weight))
            out.append(Subtype(name, int(label[0]), len(own), len(set(group.tolist())), right, mean))
    return out


def subtypes_markdown(table: Sequence[Subtype]) -> str:
    lines = ["| subtype | label | images (groups) | called right | mean p |", "|---|---|---|---|---|"]
    for one in table:
        label = ("benign", "malignant")[one.label]
        lines.append(f"| {one.name} | {label} | {one.images} ({one.groups}) | {one.right:.2f} | {one.mean:.2f} |")
    return "\n".join(lines)


def left_out_rows(predictions: Sequence[Prediction], replicates: int = 1000) -> list[Row]:
    """Metrics of each laboratory by a model that was trained without it: per image, group-weighted, and per patient."""
    table = []
    for dataset in ("breakhis", "ucsb"):
        own = [one for one in predictions if one.dataset == dataset]
        if own:
            table.append(_row(dataset, "image, groups equal", own, "group", replicates))
            table.append(_row(dataset, "patient", own, "patient", replicates))
    return table


def failures(predictions: Sequence[Prediction], count: int = 25) -> list[Prediction]:
    """The ``count`` images whose probability is farthest from their label."""
    return sorted(predictions, key=lambda one: -abs(one.p - one.label))[:count]


def by_group(predictions: Sequence[Prediction]) -> list[tuple[str, str, str, int, float]]:
    """Dataset, group, label, number of images and mean probability of every group, worst first."""
    cells: dict[tuple[str, str, int], list[float]] = {}
    for one in predictions:
        cells.setdefault((one.dataset, one.group, one.label), []).append(one.p)
    table = [(d, g, ("benign", "malignant")[c], len(v), float(np.mean(v))) for (d, g, c), v in cells.items()]
    return sorted(table, key=lambda row: -abs(row[4] - (row[2] == "malignant")))
