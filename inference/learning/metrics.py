"""Metrics of predictions, with bootstrap intervals over groups, because images of one group are not independent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NAMES = (
    "accuracy", "balanced_accuracy", "precision", "sensitivity", "specificity", "f1", "auc", "brier", "ece",
)  # fmt: skip
BINS = 10


def expected_calibration_error(label: Array, p: Array, weight: Array, bins: int = BINS) -> float:
    """Expected calibration error, 0..1 (Guo et al., ICML 2017): the weighted mean difference between probability and
    frequency of class 1 over bins of equal width."""
    index = np.minimum((p * bins).astype(int), bins - 1)
    total = np.bincount(index, weight, bins)
    gap = np.abs(np.bincount(index, weight * p, bins) - np.bincount(index, weight * label, bins))
    return float(gap[total > 0].sum() / total.sum())


def weighted_auc(label: Array, p: Array, weight: Array) -> float:
    """Area under the ROC curve: the weighted share of correctly ordered pairs; ties count half (Mann-Whitney)."""
    values, index = np.unique(p, return_inverse=True)
    positive = np.bincount(index, weight * (label == 1), len(values))
    negative = np.bincount(index, weight * (label == 0), len(values))
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs) if pairs > 0 else float("nan")


def figures(label: Array, p: Array, weight: Array | None = None) -> dict[str, float]:
    """All metrics in NAMES for labels 0/1 (N,) and malignant probabilities (N,), with threshold p >= 0.5; NaN where a
    metric is undefined."""
    weight = np.ones(len(p)) if weight is None else weight
    positive, predicted = label == 1, p >= 0.5
    tp, fn = weight[positive & predicted].sum(), weight[positive & ~predicted].sum()
    tn, fp = weight[~positive & ~predicted].sum(), weight[~positive & predicted].sum()

    def ratio(part: float, whole: float) -> float:
        return float(part / whole) if whole > 0 else float("nan")

    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return {
        "accuracy": ratio(tp + tn, weight.sum()),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "precision": ratio(tp, tp + fp),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "auc": weighted_auc(label, p, weight),
        "brier": float(np.average((p - label) ** 2, weights=weight)),
        "ece": expected_calibration_error(label, p, weight),
    }


def equal_group_weight(label: Array, group: NDArray[np.str_]) -> Array:
    """Weights of the images (N,) such that every combination of group and label has weight 1."""
    _, index, count = np.unique(
        np.char.add(group, label.astype(int).astype(str)), return_inverse=True, return_counts=True
    )
    return 1.0 / count[index]


def per_patient(label: Array, p: Array, group: NDArray[np.str_]) -> tuple[Array, Array, NDArray[np.str_]]:
    """Label, mean probability and group for every combination of group and label."""
    key = np.char.add(np.char.add(group, "|"), label.astype(int).astype(str))
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    mean = np.bincount(index, p) / np.bincount(index)
    return label[first], mean, group[first]


def intervals(
    label: Array,
    p: Array,
    group: NDArray[np.str_],
    weight: Array | None = None,
    replicates: int = 1000,
    seed: int = 0,
    measure: Callable[[Array, Array, Array], dict[str, float]] = figures,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals from a bootstrap over groups (Field & Welsh, JRSS B 2007), stratified by label.

    Groups are drawn with replacement among those with the same set of labels; all images of a drawn group are used.
    """
    weight = np.ones(len(p)) if weight is None else weight
    names, index = np.unique(group, return_inverse=True)
    kinds = np.array([int(label[index == i].min()) + 2 * int(label[index == i].max()) for i in range(len(names))])
    random = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(replicates):
        times = np.zeros(len(names))
        for kind in np.unique(kinds):
            members = np.flatnonzero(kinds == kind)
            np.add.at(times, random.choice(members, len(members)), 1)
        drawn = weight * times[index]
        keep = drawn > 0
        for name, value in measure(label[keep], p[keep], drawn[keep]).items():
            draws.setdefault(name, []).append(value)
    return {
        name: (float(np.nanpercentile(values, 2.5)), float(np.nanpercentile(values, 97.5)))
        if not np.isnan(values).all()
        else (float("nan"), float("nan"))
        for name, values in draws.items()
    }
