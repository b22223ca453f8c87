"""Updates of an open page while images are analysed."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_GET

from cases.models import Case, Slide
from cases.services.progress import case_progress
from cases.web import live, parts
from cases.web.views.access import SignedInRequest, get_case, login_required


@login_required
@require_GET
def progress(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Progress of a case and the parts of its page that changed, or of one image with ``?slide=``; 304 if none did."""
    found = get_case(request.user, pk)
    if "slide" in request.GET:
        return _of_slide(request, found)
    slides = list(Slide.objects.filter(case=found).with_analysis())
    now = case_progress(found, slides)
    # The case was read before the slides: its result may be older than theirs.
    more = now["open"] or found.open_count
    name = f"({now['done']}/{now['total']}) {found.title}" if now["open"] else found.title
    body = {**now, "open": more, "title": name, "status": f"{now['done']} of {now['total']} images analysed."}
    return live.answer(request, parts.of_case(found, slides, now, request), body)


def _of_slide(request: SignedInRequest, found: Case) -> HttpResponse:
    try:
        slide = Slide.objects.with_analysis().filter(case=found, pk=request.GET["slide"]).first()
    except (ValueError, ValidationError):
        slide = None
    if slide is None:
        raise Http404("This image does not exist.")
    slide.case = found
    body: dict[str, Any] = {"open": 0, "percent": 0, "title": slide.original_name, "status": "Not analysed."}
    if analysis := slide.analysis:
        body |= {"open": int(analysis.is_open), "percent": analysis.percent}
        body["status"] = f"Analysis: {analysis.get_state_display().lower()}."
        if analysis.is_open and analysis.patches_total:
            body["title"] = f"({analysis.patches_done}/{analysis.patches_total}) {slide.original_name}"
    return live.answer(request, parts.of_slide(slide, request), body)
