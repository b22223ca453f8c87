"""The page of a case and its actions."""

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
from cases.web.views.access import SignedInRequest, get_case, get_own_case, lock_own_case, login_required, wants_json
from inference.registry import NoModel


def _addresses(found: Case) -> dict[str, str]:
    return {
        "id": str(found.pk),
        "url": found.get_absolute_url(),
        "add_slides": reverse("cases:add_slides", args=[found.pk]),
    }


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The history for a signed-in user, otherwise the landing page."""
    if request.user.is_authenticated:
        return redirect("cases:history")
    return render(request, "cases/home.html")


@login_required
def new(request: SignedInRequest) -> HttpResponse:
    """Create a case, with its first images if any were sent. ``?mode=single`` takes one image and shows its page."""
    single = request.GET.get("mode") == "single"
    initial = {"magnification": request.user.default_magnification}
    form = NewCaseForm(request.POST or None, request.FILES or None, initial=initial, single=single)
    if request.method == "POST" and form.is_valid():
        # Checked first, so that a refusal does not leave an empty case.
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
    """The page of a case: result, images and readings."""
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


#: Consecutive events of these kinds by the same person are one line of the timeline.
GROUPED = (AuditEvent.Kind.ADDED, AuditEvent.Kind.REMOVED, AuditEvent.Kind.ANALYSED, AuditEvent.Kind.VIEWED)


def timeline(found: Case) -> list[dict[str, Any]]:
    """The latest 30 lines, newest first. Events of a kind in :data:`GROUPED` by one person within ten minutes are one
    line."""
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
    """Change the details of a case."""
    with transaction.atomic():
        found = lock_own_case(request.user, pk)
        form = EditCaseForm(request.POST or None, instance=found)
        if request.method == "POST" and form.is_valid():
            services.save_case(form)
            messages.success(request, "Changes saved.")
            return redirect(found)
    status = 400 if form.errors else 200
    return render(request, "cases/edit.html", {"form": form, "case": found}, status=status)


@login_required
def delete(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete a case permanently, after confirmation."""
    found = get_own_case(request.user, pk)
    if request.method == "POST":
        services.remove_case(found, request.user)
        messages.success(request, f"“{found.title}” and its images were deleted.")
        return redirect("cases:history")
    return render(request, "cases/delete.html", {"case": found})


@login_required
@require_POST
def add_slides(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Add images to a case. Scripts that expect JSON get the accepted and the rejected files."""
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
    """Add the first files of a new case; if a limit refuses them, delete the case instead of leaving it empty."""
    try:
        return _add(request, made, files)
    except CapacityExceeded:
        services.remove_case(made, request.user)
        raise


def _add(
    request: HttpRequest, found: Case, files: Sequence[UploadedFile], quiet: bool = False
) -> dict[str, list[dict[str, str]]]:
    """Add the files. Returns the accepted and rejected ones, and shows them as messages unless ``quiet``."""
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
            messages.error(request, f"{problem}. The file was not added.")
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
    """Sign a reading of the case. ``then=next`` leads to the next unread case instead of back to this one."""
    found = get_case(request.user, pk)
    form = ReviewForm(request.POST)
    if form.is_valid():
        services.sign_review(found, request.user, **form.cleaned_data)
        if request.POST.get("then") == "next":
            return _next_case(request, found)
        messages.success(request, "Reading signed.", extra_tags="taken")
    else:
        messages.error(request, "Choose benign, malignant or uncertain; nothing was saved.")
    return redirect(found)


def _next_case(request: SignedInRequest, signed: Case) -> HttpResponse:
    following = services.next_unread(signed, request.user)
    end = "" if following else " No other case awaits your reading."
    messages.success(request, f"Reading of “{signed.title}” signed.{end}", extra_tags="taken")
    return redirect(following or "cases:history")


@login_required
@require_GET
def export_case(request: SignedInRequest, pk: uuid.UUID, form: str) -> HttpResponse:
    """Download a case as CSV or JSON."""
    found = get_case(request.user, pk)
    return export.response(Case.objects.filter(pk=found.pk), request.user, form)


@login_required
@require_POST
def try_it(request: SignedInRequest) -> HttpResponse:
    """Create a case with synthetic images."""
    require_room(request.user, len(synthetic.uploads()))
    found = services.create_case(
        request.user,
        title="Try it: synthetic images",
        notes="Drawn by this application in the colours of H&E. They show no tissue, so their results are meaningless.",
        magnification=Magnification.UNKNOWN,
        overlap=settings.ANALYSIS_OVERLAP,
        is_synthetic=True,
    )
    _add_first(request, found, synthetic.uploads())
    return redirect(found)
