"""What can be done with cases, for pages and API alike. Views only read requests and call these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from inference.engine import verdict as engine_verdict
from inference.models import Analysis, ModelVersion, State, Verdict
from inference.queue import request_analyses
from inference.registry import active_model

from . import uploads
from .models import Case, Review, Slide, User


def add_slides(case: Case, files: Iterable[UploadedFile]) -> tuple[list[Slide], list[uploads.Rejected]]:
    """Store uploads as slides of the case and queue their analyses. Bad files don't stop good ones.

    Raises :class:`inference.registry.NoModel` before anything is stored.
    """
    active_model()
    slides, rejected = uploads.store_all(case, files)
    if slides:
        analyse(case, slides)
    return slides, rejected


def analyse(
    case: Case,
    slides: Sequence[Slide],
    overlap: float | None = None,
    model_version: ModelVersion | None = None,
) -> list[Analysis]:
    """Queue an analysis of each slide; ones already waiting or running are left alone."""
    with transaction.atomic():
        analyses = request_analyses(
            [slide.pk for slide in slides],
            Slide.objects.filter(case__owner=case.owner_id),
            overlap=case.overlap if overlap is None else overlap,
            model_version=model_version,
        )
        refresh(case)
    return analyses


def remove_slide(slide: Slide) -> None:
    """Delete a slide, its analyses and its files."""
    case = slide.case
    with transaction.atomic():
        slide.delete()
        refresh(case)
        transaction.on_commit(lambda: uploads.delete_files(slide))


def remove_case(case: Case) -> None:
    """Delete a case with everything in it; the files go once the rows are gone."""
    slides = list(case.slides.all())
    with transaction.atomic():
        case.delete()
        transaction.on_commit(lambda: [uploads.delete_files(slide) for slide in slides])


def sign_review(case: Case, author: User, reading: str, subtype: str = "", comment: str = "") -> Review:
    """Record a person's reading beside what the model says at this moment."""
    return Review.objects.create(
        case=case,
        author=author,
        reading=reading,
        subtype=subtype,
        comment=comment,
        verdict=case.verdict,
        probability=case.probability,
    )


def refresh(case: Case) -> None:
    """Derive the case's aggregate from its slides' current analyses.

    The mean of the calibrated probabilities of the in-domain slides, judged by the cut points of the
    newest model version among them.
    """
    current = Analysis.objects.filter(slide__case=case, is_current=True)
    done = list(current.filter(state=State.DONE).values_list("verdict", "probability"))
    verdict: str = ""
    probability: float | None = None
    if done:
        newest = ModelVersion.objects.filter(analyses__in=current).order_by("-added_at")[0]
        inside = [p for said, p in done if said != Verdict.OUT_OF_DOMAIN and p is not None]
        aggregate = engine_verdict.case_verdict(inside, newest.cut_low, newest.cut_high)
        verdict, probability = aggregate.verdict, aggregate.probability_malignant
    Case.objects.filter(pk=case.pk).update(
        verdict=verdict,
        probability=probability,
        slide_count=case.slides.count(),
        open_count=current.filter(state__in=(State.QUEUED, State.RUNNING)).count(),
        failed_count=current.filter(state=State.FAILED).count(),
    )


def verdict_counts(slides: Iterable[Slide]) -> Counter[str]:
    """How many slides have which verdict; those without a result are not counted."""
    return Counter(slide.analysis.verdict for slide in slides if slide.analysis and slide.analysis.verdict)


def on_analysis_ended(sender: type[Analysis], analysis: Analysis, **kwargs: Any) -> None:
    """Keep the case's aggregate true to its analyses."""
    refresh(analysis.slide.case)


def limits() -> dict[str, Any]:
    """What an upload may be, as forms, scripts and API documentation state it."""
    return {
        "max_bytes": settings.UPLOAD_MAX_BYTES,
        "max_files": settings.UPLOAD_MAX_FILES,
        "max_pixels": settings.UPLOAD_MAX_PIXELS,
    }
