"""From patch probabilities to a result: tissue-weighted mean, calibration, thresholds. All results are made here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .checkpoint import Metadata
from .domain import REASONS, DomainResult
from .tissue import EMPTY

Verdict = Literal["benign", "malignant", "indeterminate", "out_of_domain"]

#: Raw probabilities are clipped to this distance from 0 and 1, where the logit is infinite.
EDGE = 1e-6


@dataclass(frozen=True)
class SlideVerdict:
    """The result of one slide.

    ``probability_malignant`` is calibrated, 0..1. ``raw_malignant`` is the uncalibrated mean over the patches with
    tissue, weighted by their share of tissue. ``confidence`` is the larger of the two class probabilities. Patches with
    tissue count as benign or malignant at a raw probability of 0.5; ``empty_patches`` have no tissue.

    Out of domain, ``probability_malignant`` is 0.5, ``raw_malignant`` None and ``confidence`` 0.0; no patch counts as
    benign or malignant, and the first of ``warnings`` is the reason.
    """

    verdict: Verdict
    probability_malignant: float
    raw_malignant: float | None
    confidence: float
    benign_patches: int
    malignant_patches: int
    empty_patches: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseVerdict:
    """The case result; ``slides`` is the number of slides in domain."""

    verdict: Verdict
    probability_malignant: float
    confidence: float
    slides: int


def has_tissue(tissue: np.ndarray) -> np.ndarray:
    """Which patches have enough tissue to be analysed, bool (N,), from their shares of tissue, float (N,)."""
    return np.asarray(tissue) >= EMPTY


def mean_probability(patch_probs: np.ndarray, tissue: np.ndarray | None = None) -> float:
    """Raw malignant probability of a slide: the mean of column 1 of ``patch_probs``, float (N, 2), weighted by the
    shares of tissue, float (N,). Patches without tissue are left out; with ``tissue`` None all have the same weight.

    Raises ValueError if no patch has tissue, or for another shape.
    """
    if patch_probs.ndim != 2 or patch_probs.shape[1] != 2 or len(patch_probs) == 0:
        raise ValueError(f"patch probabilities must be (N, 2) with N > 0, not {patch_probs.shape}")
    malignant = patch_probs[:, 1].astype(np.float64)
    if tissue is None:
        return float(malignant.mean())
    counted = has_tissue(tissue)
    if not counted.any():
        raise ValueError("no patch has tissue")
    return float(np.average(malignant[counted], weights=np.asarray(tissue, dtype=np.float64)[counted]))


def calibrate(raw: float, metadata: Metadata) -> float:
    """Calibrated malignant probability: sigmoid(slope * logit(raw) + intercept).

    Logistic calibration (Platt 1999) of the logit; slope 1 and intercept 0 are the identity. Returns the raw value if
    the checkpoint is uncalibrated.
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


def slide_verdict(
    patch_probs: np.ndarray, metadata: Metadata, domain_result: DomainResult, tissue: np.ndarray | None = None
) -> SlideVerdict:
    """Result of a slide from its raw patch probabilities, float (N, 2), class 0 benign and 1 malignant, and the shares
    of tissue, float (N,); see :func:`mean_probability`. A slide without tissue is out of domain.
    """
    counted = np.ones(len(patch_probs), dtype=bool) if tissue is None else has_tissue(tissue)
    empty = len(counted) - int(np.count_nonzero(counted))
    if domain_result.in_domain and not counted.any():
        domain_result = DomainResult(False, REASONS["background"], "background")
    if not domain_result.in_domain:
        reason = domain_result.reason or "The image does not look like H&E breast tissue."
        return SlideVerdict("out_of_domain", 0.5, None, 0.0, 0, 0, empty, (reason, *domain_result.warnings))
    raw = mean_probability(patch_probs, tissue)
    p = calibrate(raw, metadata)
    malignant = int(np.count_nonzero(patch_probs[counted, 1] > 0.5))
    return SlideVerdict(
        verdict=judge(p, metadata.cut_low, metadata.cut_high),
        probability_malignant=p,
        raw_malignant=raw,
        confidence=max(p, 1 - p),
        benign_patches=len(counted) - empty - malignant,
        malignant_patches=malignant,
        empty_patches=empty,
        warnings=tuple(domain_result.warnings),
    )


def case_verdict(probabilities: Sequence[float], cut_low: float, cut_high: float) -> CaseVerdict:
    """Case result: the mean of the calibrated probabilities of its in-domain slides, with the same thresholds. Without
    such slides it is out of domain."""
    if not probabilities:
        return CaseVerdict("out_of_domain", 0.5, 0.0, 0)
    p = math.fsum(probabilities) / len(probabilities)
    return CaseVerdict(judge(p, cut_low, cut_high), p, max(p, 1 - p), len(probabilities))
