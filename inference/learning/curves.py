"""The out-of-fold figures of a checkpoint that a page draws, as one file beside it: ``X.figures.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.learning.crossval import Prediction
from inference.learning.evaluation import subtypes
from inference.learning.metrics import BINS, Array, equal_group_weight, weighted_auc

#: The data sets that have curves. The tiles repeat patients of the fields.
DATASETS = {"breakhis": "BreakHis", "ucsb": "UCSB"}
MAGNIFICATIONS = ("40X", "100X", "200X", "400X")


def figures_path(checkpoint: Path) -> Path:
    """Where the figures of ``X.safetensors`` are."""
    return checkpoint.with_suffix(".figures.json")


def roc(label: Array, p: Array, weight: Array) -> list[list[float]]:
    """ROC curve as pairs of false and true positive rate, both 0 to 1, from (0, 0) to (1, 1), for labels 0/1 and
    malignant probabilities (N,). Images of equal probability are one step."""
    values, index = np.unique(-p, return_inverse=True)
    true = np.cumsum(np.bincount(index, weight * (label == 1), len(values)))
    false = np.cumsum(np.bincount(index, weight * (label == 0), len(values)))
    points = np.column_stack([np.append(0, false / false[-1]), np.append(0, true / true[-1])])
    return [[round(float(x), 4), round(float(y), 4)] for x, y in points]


def reliability(label: Array, p: Array, weight: Array) -> list[dict[str, float]]:
    """Mean probability, share of malignant and number of images of each tenth of probability that has any."""
    index = np.minimum((p * BINS).astype(int), BINS - 1)
    total, images = np.bincount(index, weight, BINS), np.bincount(index, minlength=BINS)
    mean, share = np.bincount(index, weight * p, BINS), np.bincount(index, weight * label, BINS)
    return [
        {"mean": round(mean[i] / total[i], 4), "share": round(share[i] / total[i], 4), "images": int(images[i])}
        for i in range(BINS)
        if images[i]
    ]


def record(predictions: Sequence[Prediction], sha256: str) -> dict[str, Any]:
    """All figures, groups equal except where images are counted. ``sha256`` is the checkpoint's."""
    curves = []
    for dataset, title in DATASETS.items():
        own = [one for one in predictions if one.dataset == dataset]
        if len({one.label for one in own}) < 2:
            continue
        label, p = np.array([one.label for one in own], dtype=float), np.array([one.p for one in own])
        groups = np.array([one.group for one in own])
        weight = equal_group_weight(label, groups)
        curves.append({
            "name": title, "images": len(own), "groups": len(set(groups.tolist())),
            "auc": round(weighted_auc(label, p, weight), 4),
            "roc": roc(label, p, weight), "reliability": reliability(label, p, weight),
        })  # fmt: skip
    return {
        "checkpoint_sha256": sha256,
        "curves": curves,
        "subtypes": [
            {"name": one.name, "malignant": bool(one.label), "images": one.images, "groups": one.groups,
             "right": round(one.right, 4)}
            for one in subtypes(predictions)
        ],
        "magnifications": [found for name in MAGNIFICATIONS if (found := _magnification(predictions, name))],
    }  # fmt: skip


def _magnification(predictions: Sequence[Prediction], name: str) -> dict[str, Any] | None:
    """Images of BreakHis and those called right at p >= 0.5, by label."""
    own = [one for one in predictions if one.dataset == "breakhis" and one.magnification == name]
    counts = {
        kind: [sum((one.p >= 0.5) == bool(label) for one in own if one.label == label),
               sum(one.label == label for one in own)]
        for label, kind in enumerate(("benign", "malignant"))
    }  # fmt: skip
    return {"name": name, "groups": len({one.group for one in own}), **counts} if own else None


def write(predictions: Sequence[Prediction], checkpoint: Path, sha256: str) -> Path:
    path = figures_path(checkpoint)
    path.write_text(json.dumps(record(predictions, sha256), separators=(",", ":")) + "\n", encoding="utf-8")
    return path
