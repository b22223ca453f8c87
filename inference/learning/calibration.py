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


def cut_points(
    p: Array, label: Array, weight: Array, max_error: float = MAX_ERROR, min_decided: float = MIN_DECIDED
) -> tuple[float, float]:
    """Cut points low <= 0.5 <= high for calibrated probabilities (N,).

    Of the pairs whose weighted error among the decided slides is at most ``max_error`` and which decide at least the
    share ``min_decided``: the one that decides most. Where there is none, the pair of the lowest error among those
    that decide that share: the caller reports that error, which is then above the limit.
    """
    grid = np.round(np.arange(0.02, 0.981, 0.01), 2)
    above = {high: _side(p > high, label == 0, weight) for high in grid[grid >= 0.5].tolist()}
    total = float(weight.sum())
    candidates = []
    for low in grid[grid <= 0.5].tolist():
        share_low, wrong_low = _side(p < low, label == 1, weight)
        for high, (share_high, wrong_high) in above.items():
            share = (share_low + share_high) / total
            if share >= min_decided:
                candidates.append((low, high, share, (wrong_low + wrong_high) / (share * total)))
    good = [one for one in candidates if one[3] <= max_error]
    if good:
        low, high, *_ = max(good, key=lambda one: one[2])
    elif candidates:
        low, high, *_ = min(candidates, key=lambda one: (one[3], -one[2]))
    else:
        low = high = 0.5
    return low, high


def _side(decided: NDArray[np.bool_], opposite: NDArray[np.bool_], weight: Array) -> tuple[float, float]:
    """Weight of the slides of one verdict, and of the wrong ones among them."""
    return float(weight[decided].sum()), float(weight[decided & opposite].sum())
