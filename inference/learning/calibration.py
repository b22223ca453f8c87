"""Calibration and thresholds, fitted on out-of-fold slide probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from inference.engine.verdict import EDGE

Array = NDArray[np.float64]
#: Targets for the thresholds: largest error among definite results, and smallest share of definite results.
MAX_ERROR = 0.05
MIN_DECIDED = 0.70


def logit(p: Array) -> Array:
    clipped = np.clip(p, EDGE, 1 - EDGE)
    return np.log(clipped / (1 - clipped))


def fit_platt(raw: Array, label: Array, weight: Array) -> dict[str, float]:
    """``slope`` and ``intercept`` of the logistic calibration (Platt 1999) of raw probabilities (N,), fitted by maximum
    likelihood with ``weight`` (N,)."""
    model = LogisticRegression(C=1e6, max_iter=1000).fit(logit(raw)[:, None], label, sample_weight=weight)
    return {"slope": float(model.coef_[0, 0]), "intercept": float(model.intercept_[0])}


def apply_platt(raw: Array, calibration: dict[str, float]) -> Array:
    """Calibrated probabilities (N,), as ``engine.verdict.calibrate`` computes them."""
    return 1 / (1 + np.exp(-(calibration["slope"] * logit(raw) + calibration["intercept"])))


def decided(p: Array, label: Array, weight: Array, low: float, high: float) -> tuple[float, float]:
    """Weighted share of slides outside [low, high], and the error rate among them (0 if there are none)."""
    outside = (p < low) | (p > high)
    wrong = ((p < low) & (label == 1)) | ((p > high) & (label == 0))
    share = weight[outside].sum()
    return float(share / weight.sum()), float(weight[wrong].sum() / share) if share else 0.0


def choose_thresholds(
    p: Array, label: Array, weight: Array, max_error: float = MAX_ERROR, min_decided: float = MIN_DECIDED
) -> tuple[float, float]:
    """Thresholds low <= 0.5 <= high for calibrated probabilities (N,); slides outside them have a definite result.

    Among the pairs with a weighted error rate of at most ``max_error`` and a share of definite results of at least
    ``min_decided``, the one with the largest share. If there is none, the pair with the lowest error rate among those
    with the required share; the error rate, which the caller reports, then exceeds ``max_error``.
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
    """Weight of the slides on one side, and of the wrong ones among them."""
    return float(weight[decided].sum()), float(weight[decided & opposite].sum())
