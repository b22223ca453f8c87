"""Cross-validation in which every choice is made on the training part alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.learning.calibration import apply_platt, choose_thresholds, fit_platt
from inference.learning.dataset import Sample, assert_disjoint
from inference.learning.folds import assign_folds, stratum
from inference.learning.head import Auxiliary, Head, fit_head, slide_means
from inference.learning.metrics import equal_group_weight, figures

INNER_FOLDS = 4
STRENGTHS = (0.2, 0.6, 2.0)
#: Value of ``fold`` for predictions by a model that was trained without the whole laboratory.
LEFT_OUT = -1


@dataclass(frozen=True)
class Patches:
    """Patches: image index (N,), pooled features (N, K), and shares of tissue (N,), or None for equal weights."""

    rows: np.ndarray
    features: np.ndarray
    tissue: np.ndarray | None = None

    def of(self, images: np.ndarray) -> Patches:
        keep = np.isin(self.rows, images)
        return Patches(self.rows[keep], self.features[keep], None if self.tissue is None else self.tissue[keep])

    def only(self, part: slice) -> Patches:
        """The same patches with all features outside ``part`` set to 0, so that no head can use them."""
        features = np.zeros_like(self.features)
        features[:, part] = self.features[:, part]
        return Patches(self.rows, features, self.tissue)


def joined(views: Sequence[Patches]) -> Patches:
    return Patches(
        np.concatenate([view.rows for view in views]),
        np.concatenate([view.features for view in views]),
        np.concatenate([np.ones(len(view.rows)) if view.tissue is None else view.tissue for view in views]),
    )


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image by the model of the fold that held it out.

    ``p`` is the calibrated probability of malignancy, ``raw`` the mean over the patches; ``cut_low`` and ``cut_high``
    are the thresholds of that fold.
    """

    name: str
    dataset: str
    label: int
    group: str
    magnification: str
    subtype: str
    fold: int
    raw: float
    p: float
    cut_low: float
    cut_high: float


@dataclass(frozen=True)
class Chosen:
    """The choices made on the training part of a split."""

    head: Head
    strength: float
    calibration: dict[str, float]
    cut_low: float
    cut_high: float


def slides(samples: Sequence[Sample], images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and weights of images, each (N,); every combination of group and label has the same weight."""
    label = np.array([samples[i].label for i in images], dtype=float)
    group = np.array([samples[i].group for i in images])
    return label, group, equal_group_weight(label, group)


def predict(head: Head, patches: Patches) -> tuple[np.ndarray, np.ndarray]:
    """Image indices and raw slide probabilities, computed as in the engine: patch means weighted by tissue."""
    return slide_means(patches.rows, head.probability(patches.features), patches.tissue)


def log_loss(label: np.ndarray, p: np.ndarray, weight: np.ndarray) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.average(label * np.log(p) + (1 - label) * np.log(1 - p), weights=weight))


def choose(
    samples: Sequence[Sample], training: Patches, grid: Patches, seed: int = 0, auxiliary: Auxiliary | None = None
) -> Chosen:
    """Choose regularisation strength, calibration and thresholds by inner cross-validation, then fit the head.

    ``training`` are augmented patches for fitting, ``grid`` the patches that the application would analyse; both belong
    to the training part only. The strength is the one with the lowest weighted log loss after calibration.
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
    low, high = choose_thresholds(apply_platt(raw, calibration), label, weight)
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
    """Predictions for all images of ``grid``, each by the model of the fold in which its group was held out.

    ``only`` restricts this to one fold. ``auxiliary`` patches are of other patients and are used in every fit.
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
            f"fold {fold}: strength {chosen.strength}, {chosen.calibration}, "
            f"thresholds {chosen.cut_low} {chosen.cut_high}"
        )
        for i, r, q in zip(images, raw, p, strict=True):
            predictions.append(_prediction(samples[int(i)], fold, r, q, chosen))
    return sorted(predictions, key=lambda one: one.name)


def _prediction(sample: Sample, fold: int, raw: float, p: float, chosen: Chosen) -> Prediction:
    return Prediction(
        sample.name, sample.dataset, sample.label, sample.group, sample.magnification, sample.subtype, fold,
        float(raw), float(p), chosen.cut_low, chosen.cut_high,
    )  # fmt: skip


def laboratory(sample: Sample) -> str:
    """The laboratory of a sample: BreakHis fields and tiles are of the same one."""
    return "breakhis" if sample.dataset.startswith("breakhis") else sample.dataset


def laboratory_left_out(
    samples: Sequence[Sample],
    training: Patches,
    grid: Patches,
    progress: Callable[[str], None] = print,
    auxiliary: Auxiliary | None = None,
) -> list[Prediction]:
    """Predictions for each laboratory by a model that was trained and calibrated without it.

    ``fold`` is LEFT_OUT. IDC patches (``auxiliary``), which are of a third source, are used in every fit.
    """
    own = np.array([laboratory(sample) for sample in samples])
    predictions = []
    for name in sorted(set(own.tolist())):
        known, held = np.flatnonzero(own != name), np.flatnonzero(own == name)
        assert_disjoint([samples[int(i)] for i in known], [samples[int(i)] for i in held])
        chosen = choose(samples, training.of(known), grid.of(known), auxiliary=auxiliary)
        images, raw = predict(chosen.head, grid.of(held))
        p = apply_platt(raw, chosen.calibration)
        progress(f"without {name}: strength {chosen.strength}, {chosen.calibration}")
        predictions += [
            _prediction(samples[int(i)], LEFT_OUT, r, q, chosen) for i, r, q in zip(images, raw, p, strict=True)
        ]
    return sorted(predictions, key=lambda one: one.name)


@dataclass(frozen=True)
class Learned:
    """One point of the learning curve, for BreakHis images with equal group weights.

    ``share`` of the groups was used for training, which is ``groups`` groups in the mean over the folds. ``known`` is
    the AUC on training images, ``held`` the AUC on held-out groups, pooled over the folds.
    """

    share: float
    groups: float
    known: float
    held: float


def learning_curve(
    samples: Sequence[Sample],
    training: Patches,
    grid: Patches,
    folds: dict[str, int],
    strength: float,
    auxiliary: Auxiliary | None = None,
    shares: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    draws: int = 3,
) -> list[Learned]:
    """AUC by number of patients; each share below 1 is drawn ``draws`` times and averaged."""
    fold_of = np.array([folds[sample.group] for sample in samples])
    curve = []
    for share in shares:
        points = []
        for draw in range(draws if share < 1 else 1):
            held, known, groups = np.full(len(samples), np.nan), [], []
            for fold in sorted(set(folds.values())):
                images = _share_of_groups(samples, np.flatnonzero(fold_of != fold), share, seed=draw)
                part = training.of(images)
                head = fit_head(samples, part.rows, part.features, strength, auxiliary)
                own, p = predict(head, grid.of(images))
                known.append(_auc(samples, own, p))
                groups.append(len({samples[i].group for i in images}))
                test = np.flatnonzero(fold_of == fold)
                rows, p = predict(head, grid.of(test))
                held[rows] = p
            images = np.flatnonzero(np.isfinite(held))
            points.append((float(np.mean(groups)), float(np.mean(known)), _auc(samples, images, held[images])))
        mean = np.mean(points, axis=0)
        curve.append(Learned(share, *(round(float(value), 4) for value in mean)))
    return curve


def _share_of_groups(samples: Sequence[Sample], images: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The ``images`` of a random share of the groups, stratified by ``folds.stratum``, at least one group each."""
    part = [samples[i] for i in images]
    strata: dict[str, list[str]] = {}
    for group in sorted({sample.group for sample in part}):
        strata.setdefault(stratum(part, group), []).append(group)
    random = np.random.default_rng(seed)
    drawn = {
        group
        for groups in strata.values()
        for group in random.permutation(groups)[: max(1, round(share * len(groups)))].tolist()
    }
    return np.array([i for i in images if samples[i].group in drawn])


def _auc(samples: Sequence[Sample], images: np.ndarray, p: np.ndarray) -> float:
    own = np.array([samples[i].dataset == "breakhis" for i in images])
    label, _, weight = slides(samples, images[own])
    return figures(label, p[own], weight)["auc"]


def summary(predictions: Sequence[Prediction], dataset: str) -> dict[str, float]:
    """Group-weighted metrics of one data set, for the log."""
    own = [one for one in predictions if one.dataset == dataset]
    label = np.array([one.label for one in own], dtype=float)
    p = np.array([one.p for one in own])
    return figures(label, p, equal_group_weight(label, np.array([one.group for one in own])))
