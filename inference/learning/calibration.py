"""Calibration and cut points, fitted on out-of-fold slide probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from inference.engine.verdict import EDGE

Array = NDArray[np.float64]
MAX_ERROR = 0.05
MAX_SIDE_ERROR = 0.10


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


def cut_points(
    p: Array, label: Array, weight: Array, max_error: float = MAX_ERROR, max_side_error: float = MAX_SIDE_ERROR
) -> tuple[float, float]:
    """The cut points low <= 0.5 <= high that decide most slides within the limits of weighted error.

    ``max_error`` holds for all decided slides, ``max_side_error`` for each verdict by itself, so that a rare verdict
    does not hide behind the common one. Where nothing fits, the band is as wide as can be.
    """
    grid = np.round(np.arange(0.02, 0.981, 0.01), 2)
    best, chosen = -1.0, (float(grid[0]), float(grid[-1]))
    above = {high: _side(p > high, label == 0, weight) for high in grid[grid >= 0.5].tolist()}
    for low in grid[grid <= 0.5].tolist():
        share_low, wrong_low = _side(p < low, label == 1, weight)
        if wrong_low > max_side_error * share_low:
            continue
        for high, (share_high, wrong_high) in above.items():
            share, wrong = share_low + share_high, wrong_low + wrong_high
            if wrong_high <= max_side_error * share_high and wrong <= max_error * share and share > best:
                best, chosen = share, (low, high)
    return chosen


def _side(decided: NDArray[np.bool_], opposite: NDArray[np.bool_], weight: Array) -> tuple[float, float]:
    return float(weight[decided].sum()), float(weight[decided & opposite].sum())
