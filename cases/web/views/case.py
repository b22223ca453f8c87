"""A case, and what can be done with it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from cases import services
from cases.images import synthetic
from cases.limits.quotas import CapacityExceeded, require_room
from cases.models import AuditEvent, Case, Magnification, Slide
from cases.reporting import text
from cases.services import export
from cases.services.progress import case_progress
from cases.web import live, parts
from cases.web.forms import EditCaseForm, ImagesForm, NewCaseForm, ReviewForm
from cases.web.views.access import SignedInRequest, get_case, get_own_case, hold_own_case, login_required, wants_json
from inference.registry import NoModel


def _addresses(found: Case) -> dict[str, str]:
    return {
        "id": str(found.pk),
        "url": found.get_absolute_url(),
        "add_slides": reverse("cases:add_slides", args=[found.pk]),
    }


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The way in: the history for whoever is signed in, else what this is."""
    if request.user.is_authenticated:
        return redirect("cases:history")
    return render(request, "cases/home.html")


@login_required
def new(request: SignedInRequest) -> HttpResponse:
    """Open a case, with its first images if they come along; or read a single one and go to its result at once."""
    single = request.GET.get("mode") == "single"
    initial = {"magnification": request.user.default_magnification}
    form = NewCaseForm(request.POST or None, request.FILES or None, initial=initial, single=single)
    if request.method == "POST" and form.is_valid():
        # Asked before the case is made, so that a refusal leaves no empty one.
        require_room(request.user, len(form.cleaned_data["images"]))
        created = services.save_case(form, request.user)
        if form.cleaned_data["images"]:
            added = _add_first(request, created, form.cleaned_data["images"])["slides"]
            if single and added and not wants_json(request):
                return redirect("cases:slide", added[0]["id"])
        if wants_json(request):
            return JsonResponse(_addresses(created), status=201)
        return redirect(created)
    if form.errors and wants_json(request):
        return JsonResponse({"errors": form.errors.get_json_data()}, status=400)
    status = 400 if form.errors else 200
    limits = services.upload_rules() | ({"max_files": 1} if single else {})
    return render(request, "cases/new.html", {"form": form, "limits": limits, "single": single}, status=status)


@login_required
@require_GET
def case(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """A case: its result, images and readings."""
    found = get_case(request.user, pk)
    slides = list(Slide.objects.filter(case=found).with_analysis())
    progress = case_progress(found, slides)
    context = parts.case_context(found, slides, progress, request)
    reviews = list(found.reviews.select_related("author", "model_version"))
    blind = services.is_blind(found, reviews)
    context |= {
        "live_tag": live.tag(parts.of_case(found, slides, progress, request)),
        "reviews": [review for review in reviews if not blind or review.author_id == request.user.pk],
        "is_blind": blind,
        "events": timeline(found),
        "review_form": ReviewForm(),
        "images_form": ImagesForm(auto_id="add_%s"),
        "limits": services.upload_rules(),
    }
    return render(request, "cases/case.html", context)


#: What one person does in one go is one line of the timeline.
GROUPED = (AuditEvent.Kind.ADDED, AuditEvent.Kind.REMOVED, AuditEvent.Kind.ANALYSED, AuditEvent.Kind.VIEWED)


def timeline(found: Case) -> list[dict[str, Any]]:
    """The latest events, what one person added or asked for in one go as one line."""
    lines: list[dict[str, Any]] = []
    for event in found.events.timeline()[:200]:
        last = lines[-1] if lines else None
        if (
            last
            and event.kind in GROUPED
            and (last["event"].kind, last["event"].actor_id) == (event.kind, event.actor_id)
            and last["event"].at - event.at < timedelta(minutes=10)
        ):
            last["count"] += 1
            continue
        lines.append({"event": event, "count": 1})
    return lines[:30]


@login_required
def edit(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Change what is written on a case."""
    with transaction.atomic():
        found = hold_own_case(request.user, pk)
        form = EditCaseForm(request.POST or None, instance=found)
        if request.method == "POST" and form.is_valid():
            services.save_case(form)
            messages.success(request, "Changes saved.")
            return redirect(found)
    status = 400 if form.errors else 200
    return render(request, "cases/edit.html", {"form": form, "case": found}, status=status)


@login_required
def delete(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete a case for good, after asking."""
    found = get_own_case(request.user, pk)
    if request.method == "POST":
        services.remove_case(found, request.user)
        messages.success(request, f"“{found.title}” and its images were deleted.")
        return redirect("cases:history")
    return render(request, "cases/delete.html", {"case": found})


@login_required
@require_POST
def add_slides(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Add images to a case. Scripts that ask for JSON are told which were taken."""
    found = get_own_case(request.user, pk)
    as_json = wants_json(request)
    form = ImagesForm(request.POST, request.FILES)
    if not form.is_valid():
        problem = str(form.errors["images"][0])
        if as_json:
            return JsonResponse({"slides": [], "errors": [{"filename": "", "reason": problem}]}, status=400)
        messages.error(request, problem)
        return redirect(found)
    result = _add(request, found, form.cleaned_data["images"], quiet=as_json)
    return JsonResponse(result) if as_json else redirect(found)


def _add_first(request: SignedInRequest, made: Case, files: Sequence[UploadedFile]) -> dict[str, list[dict[str, str]]]:
    """Add the files that a case was made for; where they are refused for want of room, none stays empty."""
    try:
        return _add(request, made, files)
    except CapacityExceeded:
        services.remove_case(made, request.user)
        raise


def _add(
    request: HttpRequest, found: Case, files: Sequence[UploadedFile], quiet: bool = False
) -> dict[str, list[dict[str, str]]]:
    """Add the files and say what became of them, as messages and as data."""
    try:
        slides, rejected = services.add_slides(found, files, all_pages="all_pages" in request.POST)
    except NoModel as error:
        if not quiet:
            messages.error(request, f"No image was stored: {error}")
        return {"slides": [], "errors": [{"filename": "", "code": "no_model", "reason": str(error)}]}
    if not quiet:
        if slides:
            messages.success(request, f"{len(slides)} image{'s' if len(slides) != 1 else ''} added.")
        for problem in rejected:
            messages.error(request, f"{problem}. It was not added.")
    return {
        "slides": [
            {"id": str(slide.pk), "filename": slide.original_name, "url": slide.get_absolute_url()} for slide in slides
        ],
        "errors": [vars(problem) for problem in rejected],
    }


@login_required
@require_POST
def rerun(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Analyse the whole case again with the active model."""
    found = get_own_case(request.user, pk)
    try:
        slides = list(found.slides.all())
        taken = len(services.request_again(found, slides, request.user))
        if taken < len(slides):
            messages.warning(request, text.partly(taken, len(slides)))
    except NoModel as error:
        messages.error(request, str(error))
    return redirect(found)


@login_required
@require_POST
def review(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Sign a reading of the case."""
    found = get_case(request.user, pk)
    form = ReviewForm(request.POST)
    if form.is_valid():
        services.sign_review(found, request.user, **form.cleaned_data)
        messages.success(request, "Your reading was signed and recorded.", extra_tags="taken")
    else:
        messages.error(request, "Choose benign, malignant or uncertain; nothing was recorded.")
    return redirect(found)


@login_required
@require_GET
def export_case(request: SignedInRequest, pk: uuid.UUID, form: str) -> HttpResponse:
    """The whole case as data."""
    found = get_case(request.user, pk)
    return export.response(Case.objects.filter(pk=found.pk), request.user, form)


@login_required
@require_POST
def try_it(request: SignedInRequest) -> HttpResponse:
    """A case of images that the application draws itself."""
    require_room(request.user, len(synthetic.uploads()))
    found = services.create_case(
        request.user,
        title="Try it: synthetic images",
        notes="Drawn by this application in the colours of H&E. No tissue; no verdict on them means anything.",
        magnification=Magnification.UNKNOWN,
        overlap=settings.ANALYSIS_OVERLAP,
        is_synthetic=True,
    )
    _add_first(request, found, synthetic.uploads())
    return redirect(found)
