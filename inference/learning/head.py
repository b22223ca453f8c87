"""The linear head: a regularised logistic regression in which every group and both classes weigh the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from inference.learning.dataset import Sample
from inference.learning.folds import group_weights


@dataclass(frozen=True)
class Head:
    """A linear rule on pooled features: malignant minus benign logit = weight . features + bias."""

    weight: np.ndarray
    bias: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Malignant probability (N,) of features (N, K)."""
        return 1 / (1 + np.exp(-(features @ self.weight + self.bias)))


@dataclass(frozen=True)
class Auxiliary:
    """Further patches to learn from: features (M, K), labels (M,), and their weight as a share of the others'."""

    features: np.ndarray
    labels: np.ndarray
    share: float


def patch_weights(samples: Sequence[Sample], rows: np.ndarray) -> np.ndarray:
    """Weight of each patch, mean 1: an image's weight is shared by its patches. ``rows`` are image indices (N,)."""
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
    """Fit on patches: features (N, K), image index of each ``rows`` (N,), inverse regularisation ``strength``.

    ``strength`` weighs the mean loss against half the squared norm, whatever the number of patches.
    The features are standardised for the fit; the result is folded back to the features as they are.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-3
    labels = np.array([samples[i].label for i in rows])
    white, weights = (features - mean) / scale, patch_weights(samples, rows)
    if auxiliary is not None:
        # Each source is centred on itself: another scanner and scale move the mean, the direction is what is shared.
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
    """Image indices, ascending, and the mean of ``patches`` (N,) over each image, weighted by ``tissue`` (N,)."""
    images, index = np.unique(rows, return_inverse=True)
    weight = np.ones(len(rows)) if tissue is None else tissue.astype(float)
    return images, np.bincount(index, weight * patches) / np.bincount(index, weight)
