"""One slide: its page, its pixels, its maps."""

from __future__ import annotations

import uuid

import numpy as np
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET, require_POST

from cases import services
from cases.models import Slide
from inference.engine import patchmap
from inference.models import Analysis, PatchTable
from inference.registry import NoModel

from .access import SignedInRequest, get_own_slide, get_slide

private = cache_control(private=True, no_store=True)


@login_required
@require_GET
def slide(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """What the model says of a slide, and where it sees it."""
    found = get_slide(request.user, pk)
    siblings = list(found.case.slides.values_list("pk", flat=True))
    at = siblings.index(found.pk)
    analysis = found.analysis
    context = {
        "slide": found,
        "case": found.case,
        "analysis": analysis,
        "patches": _patches(analysis),
        "earlier": found.analyses.select_related("model_version").filter(is_current=False),
        "number": at + 1,
        "count": len(siblings),
        "previous": siblings[at - 1] if at else None,
        "next": siblings[at + 1] if at + 1 < len(siblings) else None,
        "is_owner": found.case.owner_id == request.user.pk,
    }
    return render(request, "cases/slide.html", context)


def _patches(analysis: Analysis | None) -> list[dict[str, object]]:
    table = PatchTable.objects.select_related("analysis").filter(analysis=analysis).first() if analysis else None
    return table.rows() if table else []


def _file(slide: Slide, name: str, content_type: str) -> HttpResponseBase:
    try:
        opened = slide.file.storage.open(name)
    except FileNotFoundError as error:
        raise Http404("The file is missing from the store.") from error
    return FileResponse(opened, content_type=content_type)


@login_required
@private
@require_GET
def image(request: SignedInRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The slide's pixels, PNG."""
    found = get_slide(request.user, pk)
    return _file(found, found.file.name, "image/png")


@login_required
@private
@require_GET
def thumbnail(request: SignedInRequest, pk: uuid.UUID) -> HttpResponseBase:
    """A small JPEG of the slide."""
    found = get_slide(request.user, pk)
    return _file(found, found.thumbnail.name, "image/jpeg")


@login_required
@private
@require_GET
def patch_map(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """The current analysis's patch probabilities as an opaque PNG, to lay over the slide."""
    found = get_slide(request.user, pk)
    table = (
        PatchTable.objects.select_related("analysis")
        .filter(analysis__slide=found, analysis__is_current=True)
        .first()
    )
    if table is None:
        raise Http404("This slide has no finished analysis.")
    values = patchmap.surface(table.grid, np.asarray(table.malignant))
    return HttpResponse(patchmap.render(values), content_type="image/png")


@login_required
@require_POST
def rerun(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Analyse a slide again with the active model."""
    found = get_own_slide(request.user, pk)
    try:
        services.analyse(found.case, [found])
        messages.success(request, f"{found.original_name} is queued again.")
    except NoModel as error:
        messages.error(request, str(error))
    return redirect(found.case if request.POST.get("back") == "case" else found)


@login_required
def delete(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Remove a slide from its case for good, after asking."""
    found = get_own_slide(request.user, pk)
    if request.method == "POST":
        services.remove_slide(found)
        messages.success(request, f"{found.original_name} was removed.")
        return redirect(found.case)
    return render(request, "cases/slide_delete.html", {"slide": found, "case": found.case})
