"""Results in the JSON format that API and command line share. Without Django.

The fields of the earlier demo keep their names and types; the others are additions. ``probabilities`` are calibrated,
0 to 1, and sum to 1. Numbers are not rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .review import review_reasons


def probabilities(malignant: float) -> dict[str, float]:
    return {"benign": 1.0 - malignant, "malignant": malignant}


def model(name: str, version: str, sha256: str, runtime: str, calibrated: bool) -> dict[str, Any]:
    """The model version and runtime that produced a result."""
    return {"name": name, "version": version, "sha256": sha256, "runtime": runtime, "calibrated": calibrated}


def image(
    *,
    verdict: str,
    confidence: float,
    malignant: float,
    raw_malignant: float | None,
    patches: int,
    empty_patches: int,
    benign_patches: int,
    malignant_patches: int,
    cut_points: tuple[float, float],
    warnings: Sequence[str],
    overlap: float,
    seconds: float,
    model: dict[str, Any],
) -> dict[str, Any]:
    """The result of one image.

    ``patches`` is the number of patches in the grid, of which ``empty_patches`` have no tissue; the others count as
    benign or malignant. For an out-of-domain image no patch counts, and ``raw_malignant`` is None. ``cut_points`` are
    the lower and upper threshold.
    """
    return {
        "prediction": verdict,
        "confidence": confidence,
        "probabilities": probabilities(malignant),
        "num_patches": patches,
        "patch_breakdown": {"benign_patches": benign_patches, "malignant_patches": malignant_patches},
        "tissue_patches": patches - empty_patches,
        "empty_patches": empty_patches,
        "processing_time_seconds": seconds,
        "verdict": verdict,
        "raw_probability": raw_malignant,
        "cut_points": {"low": cut_points[0], "high": cut_points[1]},
        "warnings": list(warnings),
        "overlap": overlap,
        "model": model,
    }


def folder(
    *,
    verdict: str,
    confidence: float,
    malignant: float,
    cut_points: tuple[float, float],
    images: Sequence[dict[str, Any]],
    errors: Sequence[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """The result of several images as one case. Each of ``images`` is a result of :func:`image` with a ``filename``;
    each of ``errors`` has ``filename``, ``code`` and ``reason``.

    A review is recommended if there are ``reasons``, each with ``code`` and ``message``; see
    :func:`inference.engine.review.review_reasons`.
    """
    verdicts = [one["verdict"] for one in images]
    reasons = review_reasons(
        verdict,
        images=len(images),
        malignant=verdicts.count("malignant"),
        indeterminate=verdicts.count("indeterminate"),
        rejected=verdicts.count("out_of_domain"),
        failed=len(errors),
    )
    return {
        "aggregated_diagnosis": {
            "prediction": verdict,
            "confidence": confidence,
            "probabilities": probabilities(malignant),
            "verdict": verdict,
            "cut_points": {"low": cut_points[0], "high": cut_points[1]},
        },
        "num_images": len(images),
        "image_breakdown": {
            "benign_images": verdicts.count("benign"),
            "malignant_images": verdicts.count("malignant"),
            "indeterminate_images": verdicts.count("indeterminate"),
            "excluded_images": verdicts.count("out_of_domain"),
        },
        "review_recommended": bool(reasons),
        "reasons": [reason.to_json() for reason in reasons],
        "individual_predictions": list(images),
        "errors": list(errors),
        "processing_time_seconds": seconds,
    }
