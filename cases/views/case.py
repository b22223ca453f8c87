"""History, a case, and what can be done with it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from cases import services, synthetic
from cases.forms import CaseForm, ImagesForm, NewCaseForm, ReviewForm
from cases.models import Case, Magnification, Slide
from cases.progress import case_progress
from inference.models import ModelVersion
from inference.registry import NoModel

from .access import SignedInRequest, get_case, get_own_case

PAGE = 20


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The way in: the history for whoever is signed in, else what this is."""
    if request.user.is_authenticated:
        return redirect("cases:history")
    return render(request, "cases/home.html")


@login_required
@require_GET
def history(request: SignedInRequest) -> HttpResponse:
    """One's cases, newest first; all cases for a reviewer."""
    cases = Case.objects.visible_to(request.user).select_related("owner")
    page = Paginator(cases, PAGE).get_page(request.GET.get("page"))
    return render(request, "cases/history.html", {"page": page})


@login_required
def new(request: SignedInRequest) -> HttpResponse:
    """Open a case, with its first images if they come along."""
    initial = {"magnification": request.user.default_magnification}
    form = NewCaseForm(request.POST or None, request.FILES or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        form.instance.owner = request.user
        case = form.save()
        if form.cleaned_data["images"]:
            _add(request, case, form.cleaned_data["images"])
        return redirect(case)
    status = 400 if form.errors else 200
    return render(request, "cases/new.html", {"form": form, "limits": services.limits()}, status=status)


@login_required
@require_GET
def case(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """A case: aggregated diagnosis, slides, readings."""
    found = get_case(request.user, pk)
    slides = list(Slide.objects.filter(case=found).with_analysis())
    done = [slide.analysis for slide in slides if slide.analysis and slide.analysis.verdict]
    context = {
        "case": found,
        "slides": slides,
        "is_owner": found.owner_id == request.user.pk,
        "model": done[0].model_version if done else ModelVersion.objects.filter(is_active=True).first(),
        "progress": case_progress(found, slides),
        "counts": services.verdict_counts(slides),
        "reviews": found.reviews.select_related("author"),
        "review_form": ReviewForm(),
        "images_form": ImagesForm(),
        "limits": services.limits(),
    }
    return render(request, "cases/case.html", context)


@login_required
@require_GET
def progress(request: SignedInRequest, pk: uuid.UUID) -> JsonResponse:
    """How far the case is, for the page that is open."""
    return JsonResponse(case_progress(get_case(request.user, pk)))


@login_required
def edit(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Change what is written on a case."""
    found = get_own_case(request.user, pk)
    form = CaseForm(request.POST or None, instance=found)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Changes saved.")
        return redirect(found)
    status = 400 if form.errors else 200
    return render(request, "cases/edit.html", {"form": form, "case": found}, status=status)


@login_required
def delete(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Delete a case for good, after asking."""
    found = get_own_case(request.user, pk)
    if request.method == "POST":
        services.remove_case(found)
        messages.success(request, f"“{found.title}” and its images were deleted.")
        return redirect("cases:history")
    return render(request, "cases/delete.html", {"case": found})


@login_required
@require_POST
def add_slides(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Add images to a case. Scripts that ask for JSON are told which were taken."""
    found = get_own_case(request.user, pk)
    wants_json = request.accepts("application/json") and not request.accepts("text/html")
    form = ImagesForm(request.POST, request.FILES)
    if not form.is_valid():
        problem = form.errors["images"][0]
        if wants_json:
            return JsonResponse({"slides": [], "errors": [{"filename": "", "reason": problem}]}, status=400)
        messages.error(request, problem)
        return redirect(found)
    result = _add(request, found, form.cleaned_data["images"], quiet=wants_json)
    return JsonResponse(result, status=200 if result["slides"] else 400) if wants_json else redirect(found)


def _add(
    request: HttpRequest, found: Case, files: list[UploadedFile], quiet: bool = False
) -> dict[str, list[dict[str, str]]]:
    """Add the files and say what became of them, as messages and as data."""
    try:
        slides, rejected = services.add_slides(found, files)
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
        "slides": [{"id": str(slide.pk), "filename": slide.original_name} for slide in slides],
        "errors": [vars(problem) for problem in rejected],
    }


@login_required
@require_POST
def rerun(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Analyse the whole case again with the active model."""
    found = get_own_case(request.user, pk)
    try:
        services.analyse(found, list(found.slides.all()))
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
        messages.success(request, "Your reading was signed and recorded.")
    else:
        messages.error(request, "Choose benign, malignant or uncertain; nothing was recorded.")
    return redirect(found)


@login_required
@require_POST
def try_it(request: SignedInRequest) -> HttpResponse:
    """A case of images that the application draws itself."""
    with transaction.atomic():
        found = Case.objects.create(
            owner=request.user,
            title="Try it: synthetic images",
            notes="Drawn by this application in the colours of H&E. No tissue; no verdict on them means anything.",
            magnification=Magnification.UNKNOWN,
            overlap=settings.ANALYSIS_OVERLAP,
            is_synthetic=True,
        )
    _add(request, found, synthetic.uploads())
    return redirect(found)
