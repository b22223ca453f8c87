"""Calibration and cut points, fitted on out-of-fold slide probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from inference.engine.verdict import EDGE

Array = NDArray[np.float64]
MAX_ERROR = 0.05
MIN_DECIDED = 0.70


def logit(p: Array) -> Array:
    clipped = np.clip(p, EDGE, 1 - EDGE)
    return np.log(clipped / (1 - clipped))


def fit_platt(raw: Array, label: Array, weight: Array) -> dict[str, float]:
    """``slope`` and ``intercept`` of the logistic calibration of raw probabilities (N,), by weighted likelihood."""
    model = LogisticRegression(C=1e6, max_iter=1000).fit(logit(raw)[:, None], label, sample_weight=weight)
    return {"slope": float(model.coef_[0, 0]), "intercept": float(model.intercept_[0])}


def apply_platt(raw: Array, calibration: dict[str, float]) -> Array:
    """As ``engine.verdict.calibrate``, for many slides."""
    return 1 / (1 + np.exp(-(calibration["slope"] * logit(raw) + calibration["intercept"])))


def decided(p: Array, label: Array, weight: Array, low: float, high: float) -> tuple[float, float]:
    """Weighted share of slides outside [low, high], and the error among them (0 where none is decided)."""
    outside = (p < low) | (p > high)
    wrong = ((p < low) & (label == 1)) | ((p > high) & (label == 0))
    share = weight[outside].sum()
    return float(share / weight.sum()), float(weight[wrong].sum() / share) if share else 0.0


def cut_points(p: Array, label: Array, weight: Array, max_error: float = MAX_ERROR) -> tuple[float, float]:
    """The cut points that decide most slides with a weighted error of at most ``max_error`` among them.

    Each side of 0.5 keeps the limit by itself, so neither verdict lives on the other's reliability.
    """
    grid = np.round(np.arange(0.01, 1.0, 0.01), 2)

    def best(candidates: Array, side: str) -> float:
        for cut in candidates:
            chosen = p < cut if side == "low" else p > cut
            wrong = label == 1 if side == "low" else label == 0
            if weight[chosen].sum() and weight[chosen & wrong].sum() / weight[chosen].sum() <= max_error:
                return float(cut)
        return float(candidates[-1])

    return best(grid[grid <= 0.5][::-1], "low"), best(grid[grid >= 0.5], "high")
