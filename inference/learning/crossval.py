"""Out-of-fold predictions in which every choice is made inside the training part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.learning.calibration import apply_platt, cut_points, fit_platt
from inference.learning.dataset import Sample, assert_disjoint
from inference.learning.folds import assign_folds
from inference.learning.head import Auxiliary, Head, fit_head, slide_means
from inference.learning.metrics import equal_group_weight, figures

INNER_FOLDS = 4
STRENGTHS = (0.2, 0.6, 2.0)


@dataclass(frozen=True)
class Patches:
    """Pooled features (N, K) of patches and the image index of each (N,)."""

    rows: np.ndarray
    features: np.ndarray

    def of(self, images: np.ndarray) -> Patches:
        keep = np.isin(self.rows, images)
        return Patches(self.rows[keep], self.features[keep])


@dataclass(frozen=True)
class Prediction:
    """What one fold's model says of one image that it never saw; p is calibrated, raw the mean over patches."""

    name: str
    dataset: str
    label: int
    group: str
    magnification: str
    fold: int
    raw: float
    p: float
    cut_low: float
    cut_high: float


@dataclass(frozen=True)
class Chosen:
    """What the training part of a split decided."""

    head: Head
    strength: float
    calibration: dict[str, float]
    cut_low: float
    cut_high: float


def slides(samples: Sequence[Sample], images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and weights of images; every (group, label) weighs the same."""
    label = np.array([samples[i].label for i in images], dtype=float)
    group = np.array([samples[i].group for i in images])
    return label, group, equal_group_weight(label, group)


def predict(head: Head, patches: Patches) -> tuple[np.ndarray, np.ndarray]:
    """Image indices and raw slide probabilities, as the engine: the mean over patches of each one's probability."""
    return slide_means(patches.rows, head.probability(patches.features))


def log_loss(label: np.ndarray, p: np.ndarray, weight: np.ndarray) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.average(label * np.log(p) + (1 - label) * np.log(1 - p), weights=weight))


def choose(
    samples: Sequence[Sample], training: Patches, grid: Patches, seed: int = 0, auxiliary: Auxiliary | None = None
) -> Chosen:
    """Strength, calibration and cut points by an inner cross-validation; then the head on all of the training part.

    ``training`` are augmented patches to learn from, ``grid`` the patches as the product reads them, both of the
    training part alone. The strength is the one of the lowest weighted log loss after calibration.
    """
    images = np.unique(grid.rows)
    part = [samples[i] for i in images]
    folds = assign_folds(part, INNER_FOLDS, seed)
    fold_of = np.array([folds[sample.group] for sample in part])
    label, _, weight = slides(samples, images)
    best: tuple[float, float, np.ndarray] | None = None
    for strength in STRENGTHS:
        raw = np.zeros(len(images))
        for fold in range(INNER_FOLDS):
            inner, held = images[fold_of != fold], images[fold_of == fold]
            fitted = training.of(inner)
            raw[fold_of == fold] = predict(
                fit_head(samples, fitted.rows, fitted.features, strength, auxiliary), grid.of(held)
            )[1]
        loss = log_loss(label, apply_platt(raw, fit_platt(raw, label, weight)), weight)
        if best is None or loss < best[0]:
            best = (loss, strength, raw)
    assert best is not None
    _, strength, raw = best
    calibration = fit_platt(raw, label, weight)
    low, high = cut_points(apply_platt(raw, calibration), label, weight)
    return Chosen(
        fit_head(samples, training.rows, training.features, strength, auxiliary), strength, calibration, low, high
    )


def out_of_fold(
    samples: Sequence[Sample],
    training: Patches,
    grid: Patches,
    folds: dict[str, int],
    progress: Callable[[str], None] = print,
    only: int | None = None,
    auxiliary: Auxiliary | None = None,
) -> list[Prediction]:
    """Predictions of all images of ``grid``, each by the model of the fold in which its group was held out.

    ``only`` makes one fold alone; ``auxiliary`` patches are of patients of no fold and part of every fit.
    """
    fold_of = np.array([folds[sample.group] for sample in samples])
    predictions = []
    for fold in sorted(set(folds.values())) if only is None else [only]:
        known, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        assert_disjoint([samples[int(i)] for i in known], [samples[int(i)] for i in held])
        chosen = choose(samples, training.of(known), grid.of(known), auxiliary=auxiliary)
        images, raw = predict(chosen.head, grid.of(held))
        p = apply_platt(raw, chosen.calibration)
        progress(
            f"fold {fold}: strength {chosen.strength}, {chosen.calibration}, cuts {chosen.cut_low} {chosen.cut_high}"
        )
        for i, r, q in zip(images, raw, p, strict=True):
            s = samples[int(i)]
            predictions.append(
                Prediction(s.name, s.dataset, s.label, s.group, s.magnification, fold, float(r), float(q),
                           chosen.cut_low, chosen.cut_high)
            )  # fmt: skip
    return sorted(predictions, key=lambda one: one.name)


def summary(predictions: Sequence[Prediction], dataset: str) -> dict[str, float]:
    """Group-weighted figures of one dataset, for the log."""
    own = [one for one in predictions if one.dataset == dataset]
    label = np.array([one.label for one in own], dtype=float)
    p = np.array([one.p for one in own])
    return figures(label, p, equal_group_weight(label, np.array([one.group for one in own])))
