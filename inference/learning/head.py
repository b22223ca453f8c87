"""The linear head: a regularised logistic regression with equal weights for groups and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from inference.learning.dataset import Sample
from inference.learning.folds import group_weights


@dataclass(frozen=True)
class Head:
    """A linear classifier on pooled features: malignant minus benign logit = weight (K,) · features + bias."""

    weight: np.ndarray
    bias: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Malignant probability (N,) of features (N, K)."""
        return 1 / (1 + np.exp(-(features @ self.weight + self.bias)))


@dataclass(frozen=True)
class Auxiliary:
    """Additional training patches: features (M, K), labels (M,), and their weight relative to the other patches."""

    features: np.ndarray
    labels: np.ndarray
    share: float


def patch_weights(samples: Sequence[Sample], rows: np.ndarray) -> np.ndarray:
    """Weight of each patch (N,), with mean 1: the weight of an image is divided among its patches. ``rows`` are image
    indices (N,)."""
    images, index, count = np.unique(rows, return_inverse=True, return_counts=True)
    weights = (group_weights([samples[i] for i in images]) / count)[index]
    return weights / weights.mean()


def fit_head(
    samples: Sequence[Sample],
    rows: np.ndarray,
    features: np.ndarray,
    strength: float,
    auxiliary: Auxiliary | None = None,
) -> Head:
    """Fit a head on patches with features (N, K) and image indices ``rows`` (N,).

    ``strength`` is the inverse regularisation: the weight of the mean loss relative to half the squared norm,
    independent of the number of patches. The fit uses standardised features; the returned head applies to raw ones.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-3
    labels = np.array([samples[i].label for i in rows])
    white, weights = (features - mean) / scale, patch_weights(samples, rows)
    if auxiliary is not None:
        # Each source is standardised separately: scanner and scale shift the mean, but not the direction of malignancy.
        extra = auxiliary.features
        white = np.concatenate([white, (extra - extra.mean(0)) / (extra.std(0) + 1e-3)])
        by_class = 0.5 / np.bincount(auxiliary.labels, minlength=2)
        labels = np.concatenate([labels, auxiliary.labels])
        weights = np.concatenate([weights, by_class[auxiliary.labels] * auxiliary.share * len(rows)])
    model = LogisticRegression(C=strength / len(rows), max_iter=500, tol=1e-4)
    model.fit(white, labels, sample_weight=weights)
    weight = model.coef_[0] / scale
    return Head(weight, float(model.intercept_[0] - weight @ mean))


def slide_means(
    rows: np.ndarray, patches: np.ndarray, tissue: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Image indices in ascending order, and the mean of ``patches`` (N,) for each, weighted by ``tissue`` (N,)."""
    images, index = np.unique(rows, return_inverse=True)
    weight = np.ones(len(rows)) if tissue is None else tissue.astype(float)
    return images, np.bincount(index, weight * patches) / np.bincount(index, weight)
