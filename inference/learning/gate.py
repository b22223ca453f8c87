"""Fits the out-of-domain gate to real fields; no foreign image takes part in the fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from inference.engine.domain import STATISTICS, distance, reduced, statistics
from inference.learning.augment import Strength, stain_jitter
from inference.learning.dataset import Sample, read_rgb

#: Other laboratories stain otherwise: real fields are restained by this much before the gate is fitted.
RESTAINED = Strength(stain=0.2, offset=0.01, channel=0.04)
COPIES = 2
SHRINKAGE = 0.1
QUANTILE = 0.99
SLACK = 1.10


def real_statistics(samples: Sequence[Sample], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the fields as they are (N, 25), and of restained, defocused and darkened copies (N, 4, 25)."""
    plain, varied = [], []
    for index, sample in enumerate(samples):
        random = np.random.default_rng((seed, index))
        rgb = reduced(read_rgb(sample.path))
        plain.append(statistics(rgb))
        copies = [stain_jitter(rgb, random, RESTAINED) for _ in range(COPIES)]
        copies += [blurred(rgb, random.uniform(0.5, 1.5)), darkened(rgb, random.uniform(0.6, 0.9))]
        varied.append([statistics(copy) for copy in copies])
    return np.array(plain), np.array(varied)


def blurred(rgb: np.ndarray, radius: float) -> np.ndarray:
    """Out of focus: Gaussian blur, ``radius`` is its standard deviation in pixels."""
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))


def darkened(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Under-exposed: light times ``factor``."""
    return (rgb * factor).astype(np.uint8)


def fit_gate(plain: np.ndarray, varied: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    """Parameters for ``engine.domain.check`` from the statistics of real fields, each group weighing the same.

    Rules sit beyond the most extreme real field by a margin; the distance limit is a quantile of real fields.
    """
    known = np.concatenate([plain, varied.reshape(-1, plain.shape[1])])
    weights = np.concatenate([weight, np.repeat(weight, varied.shape[1])])
    mean = np.average(known, axis=0, weights=weights)
    scale = np.sqrt(np.average((known - mean) ** 2, axis=0, weights=weights)) + 1e-3
    white = (known - mean) / scale
    covariance = np.cov(white.T, aweights=weights)
    precision = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(mean)))
    column = {name: known[:, i] for i, name in enumerate(STATISTICS)}
    real = {name: plain[:, i] for i, name in enumerate(STATISTICS)}
    gate: dict[str, Any] = {
        "mean": np.round(mean, 5).tolist(),
        "scale": np.round(scale, 5).tolist(),
        "precision": np.round(precision, 4).tolist(),
        "stained": round(0.6 * float(column["stained"].min()), 4),
        "uniform": round(float((1 + column["dominant"].max()) / 2), 4),
        "plain": round(0.7 * float(column["entropy"].min()), 4),
        "dark_share": round(float((1 + column["dark"].max()) / 2), 4),
        "magenta": round(0.8 * float(np.quantile(column["magenta"], 0.005)), 4),
        "trade": round(float(column["trade"].max()) + 0.1, 4),
        "blurred": round(float(np.quantile(real["middle"], 0.99)) + 0.05, 4),
        "dark": round(1.2 * float(np.quantile(real["exposure"], 0.995)), 4),
    }
    gate["limit"] = round(SLACK * float(np.quantile([distance(values, gate) for values in known], QUANTILE)), 4)
    return gate
