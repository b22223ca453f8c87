"""From patch probabilities to a verdict: mean, calibration, cut points. The one place where a verdict is made."""

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

#: Raw probabilities are kept this far from 0 and 1, where the logit has no value.
EDGE = 1e-6


@dataclass(frozen=True)
class SlideVerdict:
    """What is said of one slide.

    ``probability_malignant`` is calibrated, 0..1; ``raw_malignant`` the mean over the patches with tissue, weighted
    by their share of it, None out of domain. ``confidence`` is the larger of the two class probabilities. Patches
    with tissue are counted at 0.5 on the raw probability; ``empty_patches`` have none and are left out.
    Out of domain there is no model probability: 0.5, confidence 0.0, no patches counted as benign or malignant, and
    the reason first among ``warnings``.
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
    """What is said of several slides together; ``slides`` counts those in domain."""

    verdict: Verdict
    probability_malignant: float
    confidence: float
    slides: int


def has_tissue(tissue: np.ndarray) -> np.ndarray:
    """Which patches have enough tissue to be read, bool (N,), from their shares of it, float (N,)."""
    return np.asarray(tissue) >= EMPTY


def mean_probability(patch_probs: np.ndarray, tissue: np.ndarray | None = None) -> float:
    """Raw malignant probability of a slide: the mean of column 1 of float (N, 2), weighted by the shares of tissue,
    float (N,). Patches without tissue are left out, whatever their probabilities; without ``tissue`` all count alike.

    Raises ValueError where no patch counts.
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


def slide_verdict(
    patch_probs: np.ndarray, metadata: Metadata, domain_result: DomainResult, tissue: np.ndarray | None = None
) -> SlideVerdict:
    """Verdict of a slide from its raw patch probabilities, float (N, 2), class 0 benign and 1 malignant, and the
    patches' shares of tissue, float (N,); see :func:`mean_probability`. Without any tissue it is out of domain.
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
    """Verdict of a case: the mean of its in-domain slides' calibrated probabilities under the same cut points."""
    if not probabilities:
        return CaseVerdict("out_of_domain", 0.5, 0.0, 0)
    p = math.fsum(probabilities) / len(probabilities)
    return CaseVerdict(judge(p, cut_low, cut_high), p, max(p, 1 - p), len(probabilities))
