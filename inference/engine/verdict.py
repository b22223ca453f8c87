"""From patch probabilities to a verdict: mean, calibration, cut points. The one place where a verdict is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .checkpoint import Metadata
from .domain import DomainResult

Verdict = Literal["benign", "malignant", "indeterminate", "out_of_domain"]

#: Raw probabilities are kept this far from 0 and 1, where the logit has no value.
EDGE = 1e-6


@dataclass(frozen=True)
class SlideVerdict:
    """What is said of one slide.

    ``probability_malignant`` is calibrated, 0..1; ``raw_malignant`` the mean over the patches, None out of domain.
    ``confidence`` is the larger of the two class probabilities. Patches are counted at 0.5 on the raw probability.
    Out of domain there is no model probability: 0.5, confidence 0.0, no patches counted, and the reason first among
    ``warnings``.
    """

    verdict: Verdict
    probability_malignant: float
    raw_malignant: float | None
    confidence: float
    benign_patches: int
    malignant_patches: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseVerdict:
    """What is said of several slides together; ``slides`` counts those in domain."""

    verdict: Verdict
    probability_malignant: float
    confidence: float
    slides: int


def mean_probability(patch_probs: np.ndarray) -> float:
    """Raw malignant probability of a slide: the mean of column 1 of float (N, 2). Raises ValueError for N = 0."""
    if patch_probs.ndim != 2 or patch_probs.shape[1] != 2 or len(patch_probs) == 0:
        raise ValueError(f"patch probabilities must be (N, 2) with N > 0, not {patch_probs.shape}")
    return float(np.mean(patch_probs[:, 1], dtype=np.float64))


def calibrate(raw: float, metadata: Metadata) -> float:
    """Calibrated malignant probability: sigmoid(slope * logit(raw) + intercept).

    Logistic calibration after Platt (1999) on the logit, so slope 1 and intercept 0 change nothing. The raw value
    itself where the checkpoint is uncalibrated.
    """
    if not metadata.calibrated:
        return raw
    clipped = min(max(raw, EDGE), 1 - EDGE)
    z = metadata.calibration["slope"] * math.log(clipped / (1 - clipped)) + metadata.calibration["intercept"]
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def judge(p: float, cut_low: float, cut_high: float) -> Verdict:
    """Below ``cut_low`` benign, above ``cut_high`` malignant, else indeterminate."""
    if p < cut_low:
        return "benign"
    return "malignant" if p > cut_high else "indeterminate"


def slide_verdict(patch_probs: np.ndarray, metadata: Metadata, domain_result: DomainResult) -> SlideVerdict:
    """Verdict of a slide from its raw patch probabilities, float (N, 2), class 0 benign and 1 malignant."""
    if not domain_result.in_domain:
        reason = domain_result.reason or "The image does not look like H&E breast tissue."
        return SlideVerdict("out_of_domain", 0.5, None, 0.0, 0, 0, (reason, *domain_result.warnings))
    raw = mean_probability(patch_probs)
    p = calibrate(raw, metadata)
    malignant = int(np.count_nonzero(patch_probs[:, 1] > 0.5))
    return SlideVerdict(
        verdict=judge(p, metadata.cut_low, metadata.cut_high),
        probability_malignant=p,
        raw_malignant=raw,
        confidence=max(p, 1 - p),
        benign_patches=len(patch_probs) - malignant,
        malignant_patches=malignant,
        warnings=tuple(domain_result.warnings),
    )


def case_verdict(probabilities: Sequence[float], cut_low: float, cut_high: float) -> CaseVerdict:
    """Verdict of a case: the mean of its in-domain slides' calibrated probabilities under the same cut points."""
    if not probabilities:
        return CaseVerdict("out_of_domain", 0.5, 0.0, 0)
    p = math.fsum(probabilities) / len(probabilities)
    return CaseVerdict(judge(p, cut_low, cut_high), p, max(p, 1 - p), len(probabilities))
