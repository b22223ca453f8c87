"""The page of a slide, its image data and its maps."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import numpy as np
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET, require_POST

from cases import services
from cases.images import tiles as image_tiles
from cases.images.serving import FileMissing, is_missing
from cases.images.serving import send as send_file
from cases.models import Slide, User
from cases.web import live, parts
from cases.web.parts import ORDERS, order_slides
from cases.web.views.access import SignedInRequest, get_own_slide, get_slide, login_required
from inference.engine import activationmap, patchmap
from inference.engine.image import ImageError
from inference.models import PatchTable, Verdict
from inference.registry import NoModel

log = logging.getLogger(__name__)

NO_THUMBNAIL = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 210"><rect width="320" height="210" fill="#e4e7ec"/>'
    '<text x="160" y="112" text-anchor="middle" font-family="sans-serif" font-size="26" fill="#495365">'
    "Image missing</text></svg>"
)

private = cache_control(private=True, no_store=True)


@login_required
@require_GET
def slide(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """The page of a slide: result, patches and maps."""
    found = get_slide(request.user, pk)
    order = request.GET.get("order", "")
    order = order if order in ORDERS else ""
    # "case" is loaded too: the related manager sets it on each slide and would otherwise query for each.
    others = found.case.slides.with_analysis() if order else found.case.slides.only("original_name", "case")
    siblings = [other.pk for other in order_slides(list(others), order)]
    at = siblings.index(found.pk)
    context = {
        **parts.slide_context(found, request),
        "live_tag": live.tag(parts.of_slide(found, request)),
        "image_missing": is_missing(found.file),
        "order": order,
        "number": at + 1,
        "count": len(siblings),
        "previous": siblings[at - 1] if at else None,
        "next": siblings[at + 1] if at + 1 < len(siblings) else None,
    }
    return render(request, "cases/slide.html", context)


@login_required
@private
@require_GET
def image(request: SignedInRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The full image as PNG."""
    found = get_slide(request.user, pk)
    return send_file(found.file, "image/png")


@login_required
@private
@require_GET
def thumbnail(request: SignedInRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The thumbnail as JPEG, or a drawing that says that the image is missing."""
    found = get_slide(request.user, pk)
    try:
        return send_file(found.thumbnail, "image/jpeg")
    except FileMissing:
        # Browsers show the body of a 404 as well.
        return HttpResponse(NO_THUMBNAIL, content_type="image/svg+xml", status=404)


@login_required
@private
@require_GET
def patch_map(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """The patch map of an analysis as an opaque PNG, to overlay on the slide."""
    table = _table(request, pk)
    values = patchmap.surface(table.grid, np.asarray(table.malignant))
    return HttpResponse(patchmap.render(values), content_type="image/png")


@login_required
@private
@require_GET
def activation_map(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """The activation map as a greyscale PNG, 0 benign to 255 malignant, which the viewer colours."""
    table = _table(request, pk)
    values = activationmap.surface(table.grid, table.activation)
    return HttpResponse(activationmap.encode(values), content_type="image/png")


def _table(request: SignedInRequest, pk: uuid.UUID) -> PatchTable:
    """Patches of the analysis in ``?analysis=`` (an open page may show an earlier one), by default the current one.

    Raises ``Http404``.
    """
    found = get_slide(request.user, pk)
    tables = PatchTable.objects.select_related("analysis").filter(analysis__slide=found)
    # Patch probabilities of an image that is not H&E breast tissue are meaningless.
    tables = tables.exclude(analysis__verdict=Verdict.OUT_OF_DOMAIN)
    try:
        asked: dict[str, Any] = {"analysis": uuid.UUID(request.GET["analysis"])} if "analysis" in request.GET else {}
    except ValueError as error:
        raise Http404("This analysis does not exist.") from error
    table = tables.filter(**asked or {"analysis__is_current": True}).first()
    if table is None:
        raise Http404("This image has no finished analysis.")
    return table


@login_required
@private
@require_GET
def view(request: SignedInRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The slide as one image: the full PNG, or a reduced JPEG if it is very large."""
    found = get_slide(request.user, pk)
    if not image_tiles.is_large(found):
        return send_file(found.file, "image/png")
    return HttpResponse(_from_tiles(request.user, found, "overview.jpg"), content_type="image/jpeg")


@login_required
@private
@require_GET
def tiles(request: SignedInRequest, pk: uuid.UUID) -> JsonResponse:
    """Geometry of a slide's tiles for the viewer. Creates the tiles if they don't exist yet."""
    found = get_slide(request.user, pk)
    lowest, highest = image_tiles.levels(found)
    _from_tiles(request.user, found, f"{highest}/0_0.jpg")
    return JsonResponse(
        {
            "width": found.width,
            "height": found.height,
            "tileSize": image_tiles.TILE,
            "tileOverlap": image_tiles.OVERLAP,
            "minLevel": lowest,
            "maxLevel": highest,
        }
    )


@login_required
@private
@require_GET
def tile(request: SignedInRequest, pk: uuid.UUID, level: int, column: int, row: int) -> HttpResponse:
    """One tile as JPEG. Browsers must not store it, as for every image of a slide; OpenSeadragon caches the tiles of
    the open page."""
    found = get_slide(request.user, pk)
    return HttpResponse(_from_tiles(request.user, found, f"{level}/{column}_{row}.jpg"), content_type="image/jpeg")


def _from_tiles(user: User, slide: Slide, member: str) -> bytes:
    try:
        content = image_tiles.read(slide, member, user)
    except ImageError as error:
        log.error("The stored image of slide %s can't be read: %s", slide.pk, error)
        raise Http404("The stored image can’t be read.") from error
    if content is None:
        raise Http404("This tile does not exist.")
    return content


@login_required
@private
@require_GET
def patch(request: SignedInRequest, pk: uuid.UUID, index: int) -> HttpResponse:
    """One patch as the network saw it, as a PNG of 224×224 pixels."""
    table = _table(request, pk)
    if index >= len(table.grid):
        raise Http404("This patch does not exist.")
    found = get_slide(request.user, pk)
    try:
        content = image_tiles.patch(found, table.grid, index, request.user)
    except ImageError as error:
        log.error("The stored image of slide %s can't be read: %s", found.pk, error)
        raise Http404("The stored image can’t be read.") from error
    return HttpResponse(content, content_type="image/png")


@login_required
@require_POST
def rerun(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Analyse a slide again with the active model."""
    found = get_own_slide(request.user, pk)
    try:
        services.request_again(found.case, [found], request.user)
        messages.success(request, f"{found.original_name} was queued for analysis.")
    except NoModel as error:
        messages.error(request, str(error))
    return redirect(found.case if request.POST.get("back") == "case" else found)


@login_required
def delete(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete a slide permanently, after confirmation."""
    found = get_own_slide(request.user, pk)
    if request.method == "POST":
        services.remove_slide(found, request.user)
        messages.success(request, f"{found.original_name} was deleted.")
        return redirect(found.case)
    return render(request, "cases/slide_delete.html", {"slide": found, "case": found.case})
