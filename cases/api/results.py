"""Builds the responses of the prediction calls from database rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Max, Min
from django.urls import reverse
from rest_framework.request import Request

from cases import services
from cases.models import Case, Slide
from cases.reporting import text
from inference.engine import results
from inference.jobs import queue
from inference.models import Analysis, State, Verdict

from .errors import Problem, unavailable


def map_url(request: Request, analysis: Analysis) -> str | None:
    """Address of the patch map; None if the image is not H&E breast tissue."""
    if analysis.verdict == Verdict.OUT_OF_DOMAIN:
        return None
    return request.build_absolute_uri(reverse("api:analysis-map", args=[analysis.pk]))


def report_url(request: Request, case_id: Any) -> str:
    """Address of the PDF report of a case."""
    return request.build_absolute_uri(reverse("api:case-report", args=[case_id]))


def file_error(analysis: Analysis) -> dict[str, str]:
    """A failed analysis as an entry of ``errors``."""
    return {
        "filename": analysis.slide.original_name,
        "code": analysis.error_code or "error",
        "reason": analysis.error,
    }


def single(request: Request, analysis: Analysis, cached: bool = False) -> dict[str, Any]:
    """Response for one finished analysis, loaded with its slide and model version."""
    slide = analysis.slide
    return {
        "id": str(analysis.pk),
        "case": str(slide.case_id),
        "slide": str(slide.pk),
        "filename": slide.original_name,
        **_figures(analysis),
        "magnification": slide.magnification,
        "cached": cached,
        "patch_map_url": map_url(request, analysis),
        "report_url": report_url(request, slide.case_id),
    }


def _figures(analysis: Analysis) -> dict[str, Any]:
    version = analysis.model_version
    assert analysis.probability is not None and analysis.confidence is not None
    return results.image(
        verdict=analysis.verdict,
        confidence=analysis.confidence,
        malignant=analysis.probability,
        raw_malignant=analysis.raw_probability,
        patches=analysis.all_patches,
        empty_patches=analysis.empty_patches or 0,
        benign_patches=analysis.benign_patches or 0,
        malignant_patches=analysis.malignant_patches or 0,
        cut_points=(version.cut_low, version.cut_high),
        warnings=analysis.warnings,
        overlap=analysis.overlap,
        seconds=analysis.seconds or 0.0,
        model=results.model(version.name, version.version, version.sha256, analysis.runtime, version.calibrated),
    )


def folder(request: Request, case: Case, cached: bool = False) -> dict[str, Any]:
    """Response for a case whose analyses have all ended. Raises :class:`Problem` if none has a result."""
    slides = list(Slide.objects.filter(case=case).with_analysis())
    errors = [problem for sent in case.submissions.order_by("created_at") for problem in sent.rejected]
    images = []
    for slide in slides:
        analysis = slide.analysis
        if analysis is None:
            continue
        analysis.slide = slide
        if analysis.state == State.DONE:
            images.append(single(request, analysis, cached))
        elif analysis.state == State.FAILED:
            errors.append(file_error(analysis))
    if not images and errors and all(error["code"].startswith("model") for error in errors):
        raise unavailable("model_unusable", errors[0]["reason"])
    if not images:
        raise Problem("analysis_failed", "None of the images could be analysed.", errors=errors)
    version = services.case_model(case, slides)
    span = Analysis.objects.filter(slide__case=case, is_current=True, state=State.DONE).aggregate(
        first=Min("started_at"), last=Max("finished_at")
    )
    assert version is not None and case.probability is not None and case.confidence is not None
    answer = results.folder(
        verdict=case.verdict,
        confidence=case.confidence,
        malignant=case.probability,
        cut_points=(version.cut_low, version.cut_high),
        images=images,
        errors=errors,
        seconds=(span["last"] - span["first"]).total_seconds(),
    )
    return {
        "id": str(case.pk),
        "case": str(case.pk),
        **answer,
        "verdict": case.verdict,
        "warnings": [
            *([text.MIXED] if services.is_mixed(slides) else []),
            *(f"{image['filename']}: {text}" for image in images for text in image["warnings"]),
        ],
        # The model version whose thresholds judged the case.
        "model": max((image["model"] for image in images), key=lambda model: model["sha256"] == version.sha256),
        "cached": cached,
        "report_url": report_url(request, case.pk),
    }


def failure(analysis: Analysis) -> Problem:
    """The error response for a failed analysis."""
    if analysis.error_code.startswith("model"):
        return unavailable("model_unusable", analysis.error)
    return Problem("analysis_failed", analysis.error, analysis=str(analysis.pk))


def progress(analyses: Sequence[Analysis]) -> dict[str, Any]:
    """Combined progress of analyses, each loaded with its slide."""
    waiting = [analysis for analysis in analyses if analysis.state == State.QUEUED]
    done = sum(analysis.patches_done for analysis in analyses)
    total = sum(analysis.patches_total or analysis.expected_patches for analysis in analyses)
    all_wait = len(waiting) == len(analyses)
    return {
        "state": str(State.QUEUED if all_wait else State.RUNNING),
        "current": done,
        "total": total,
        "percentage": round(100.0 * done / total, 1) if total else 0.0,
        "ahead": queue.position(min(waiting, key=lambda a: (a.turn, a.queued_at))) if all_wait and waiting else 0,
    }
