"""Cases as data: JSON with everything, CSV with one line per slide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpResponse, JsonResponse

from cases import audit, services
from cases.models import AuditEvent, Case, Review, Slide, User
from inference.models import Analysis
from inference.tables import write_csv

COLUMNS = [
    "case_id", "case", "patient", "tags", "created", "owner", "case_verdict", "case_probability_malignant",
    "slide_id", "file", "sha256", "width", "height", "magnification", "state", "verdict",
    "probability_malignant", "raw_probability_malignant", "confidence", "benign_patches", "malignant_patches",
    "overlap", "model", "model_sha256", "calibrated", "cut_low", "cut_high", "runtime", "finished", "warnings",
    "tissue_patches", "empty_patches", "review_recommended", "review_reasons", "readings",
]  # fmt: skip


def analysis_data(analysis: Analysis | None) -> dict[str, Any] | None:
    if analysis is None:
        return None
    model = analysis.model_version
    return {
        "id": str(analysis.pk),
        "state": analysis.state,
        "verdict": analysis.verdict or None,
        "probability_malignant": analysis.probability,
        "raw_probability_malignant": analysis.raw_probability,
        "confidence": analysis.confidence,
        "benign_patches": analysis.benign_patches,
        "malignant_patches": analysis.malignant_patches,
        "tissue_patches": analysis.tissue_patches,
        "empty_patches": analysis.empty_patches,
        "overlap": analysis.overlap,
        "warnings": analysis.warnings,
        "error": analysis.error or None,
        "runtime": analysis.runtime or None,
        "finished_at": analysis.finished_at.isoformat() if analysis.finished_at else None,
        "model": {
            "name": model.name,
            "version": model.version,
            "sha256": model.sha256,
            "calibrated": model.calibrated,
            "cut_low": model.cut_low,
            "cut_high": model.cut_high,
        },
    }


def slide_data(slide: Slide) -> dict[str, Any]:
    return {
        "id": str(slide.pk),
        "file": slide.original_name,
        "sha256": slide.sha256,
        "width": slide.width,
        "height": slide.height,
        "magnification": slide.magnification,
        "analysis": analysis_data(slide.analysis),
    }


def review_data(review: Review) -> dict[str, Any]:
    return {
        "author": review.author.get_username(),
        "author_name": review.author.get_full_name(),
        "signed_at": review.created_at.isoformat(),
        "reading": review.reading,
        "blind": review.was_blind,
        "subtype": review.subtype,
        "comment": review.comment,
        "model_verdict": review.verdict or None,
        "model_probability_malignant": review.probability,
    }


def case_data(case: Case, reader: User) -> dict[str, Any]:
    """A case as ``reader`` may see it. Load the case with :func:`with_everything`."""
    return {
        "id": str(case.pk),
        "title": case.title,
        "patient": case.patient,
        "notes": case.notes,
        "magnification": case.magnification,
        "tags": [tag.name for tag in case.tags.all()],
        "synthetic": case.is_synthetic,
        "created_at": case.created_at.isoformat(),
        "owner": case.owner.get_username(),
        "owner_name": case.owner.get_full_name(),
        "verdict": case.verdict or None,
        "probability_malignant": case.probability,
        "confidence": case.confidence,
        "review_recommended": case.review_recommended,
        "reasons": [reason.to_json() for reason in case.reasons],
        "slides": [slide_data(slide) for slide in case.slides.all()],
        "reviews": [review_data(review) for review in visible_reviews(case, reader)],
    }


def with_everything(cases: QuerySet[Case]) -> QuerySet[Case]:
    slides = Slide.objects.with_analysis()
    reviews = Review.objects.select_related("author")
    return cases.select_related("owner").prefetch_related(
        "tags", Prefetch("slides", slides), Prefetch("reviews", reviews)
    )


def checksum(data: Any) -> str:
    """SHA-256 of JSON data in canonical form: sorted keys, no spaces, UTF-8."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def visible_reviews(case: Case, reader: User) -> list[Review]:
    """The signed readings that ``reader`` may see."""
    reviews = list(case.reviews.all())
    return [one for one in reviews if one.author_id == reader.pk] if services.is_blind(case, reviews) else reviews


def _reading(review: Review) -> str:
    said = ", ".join(filter(None, (review.reading, review.subtype, review.comment)))
    return f"{review.author.get_username()} ({review.created_at.isoformat()}): {said}"


def rows(cases: Iterable[Case], reader: User) -> Iterable[list[Any]]:
    """One line per slide; a case without slides has one line with empty slide columns."""
    for case in cases:
        head = [
            str(case.pk), case.title, case.patient, ", ".join(tag.name for tag in case.tags.all()),
            case.created_at.isoformat(), case.owner.get_username(), case.verdict, case.probability,
        ]  # fmt: skip
        slides = list(case.slides.all())
        readings = "; ".join(_reading(review) for review in visible_reviews(case, reader))
        review = [case.review_recommended, " ".join(reason.message for reason in case.reasons), readings]
        if not slides:
            yield [*head, *[""] * (len(COLUMNS) - len(head) - 1), readings]
        for slide in slides:
            analysis = slide.analysis
            model = analysis.model_version if analysis else None
            yield [
                *head,
                str(slide.pk), slide.original_name, slide.sha256, slide.width, slide.height, slide.magnification,
                analysis and analysis.state, analysis and analysis.verdict, analysis and analysis.probability,
                analysis and analysis.raw_probability, analysis and analysis.confidence,
                analysis and analysis.benign_patches, analysis and analysis.malignant_patches,
                analysis and analysis.overlap, model and str(model), model and model.sha256,
                model and model.calibrated, model and model.cut_low, model and model.cut_high,
                analysis and analysis.runtime,
                analysis and analysis.finished_at and analysis.finished_at.isoformat(),
                "; ".join(analysis.warnings) if analysis else "",
                analysis and analysis.tissue_patches, analysis and analysis.empty_patches, *review,
            ]  # fmt: skip


def csv_response(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> HttpResponse:
    """A table as CSV for a spreadsheet."""
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    # Without the byte order mark, spreadsheets don't read it as UTF-8.
    answer.write("\ufeff")
    write_csv(answer, columns, lines)  # type: ignore[arg-type]  # a response is a text file that can only be written
    return answer


def response(cases: QuerySet[Case], reader: User, form: str) -> HttpResponse:
    """Cases as a download, ``csv`` or ``json``, recorded in each case's audit trail. Raises 404 for another format."""
    if form not in ("csv", "json"):
        raise Http404("Cases are exported as csv or json.")
    found = list(with_everything(cases))
    audit.record_all(AuditEvent.Kind.EXPORTED, [case.pk for case in found], reader, form.upper())
    if form == "json":
        answer: HttpResponse = JsonResponse(
            {"cases": [case_data(case, reader) for case in found]}, json_dumps_params={"indent": 1}
        )
    else:
        answer = csv_response(COLUMNS, rows(found, reader))
    answer["Content-Disposition"] = f'attachment; filename="histopath-cases.{form}"'
    return answer
