"""Pages that do not belong to a case: help, model card, status; and the theme switch."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from cases import services
from cases.models import Theme
from cases.reporting import model_card as reported
from cases.reporting import text
from cases.web.views.access import SignedInRequest, login_required, page_before
from inference import registry
from inference.jobs import queue
from inference.models import Analysis, ModelVersion, State, Verdict


@require_GET
def help_page(request: HttpRequest) -> HttpResponse:
    """How a result is computed, what it means and what its limits are."""
    model = ModelVersion.objects.filter(is_active=True).first()
    context = {
        "model": model,
        "thresholds": text.thresholds(model) if model else "",
        "disclaimer": text.DISCLAIMER,
        "limits": services.upload_rules(),
    }
    return render(request, "cases/help.html", context)


@login_required
@require_GET
def model_card(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """The model card of a model version: how often it is wrong, and on what it was trained."""
    model = get_object_or_404(ModelVersion, pk=pk)
    context = {
        "model": model,
        "cautions": [text.caution(verdict, model) for verdict in (Verdict.BENIGN, Verdict.MALIGNANT)],
        "columns": [label for _, label in reported.COLUMNS],
        "held_out": reported.held_out(model),
        "charts": reported.curves(model),
        "training": reported.training(model),
        "runtimes": reported.runtimes(model),
        "thresholds": text.thresholds(model),
        "disclaimer": text.DISCLAIMER,
    }
    return render(request, "cases/model.html", context)


def _status() -> dict[str, Any]:
    waiting = Analysis.objects.filter(state=State.QUEUED).count()
    running = Analysis.objects.filter(state=State.RUNNING).count()
    worker = queue.worker_alive()
    model = registry.is_usable()
    if not worker:
        state, text = "down", "No worker is running. Images stay queued until one starts"
    elif not model:
        state, text = "down", "No usable model is active. Images can’t be analysed"
    elif waiting or running:
        state, text = "busy", f"Busy: {running} running, {waiting} queued"
    else:
        state, text = "ok", "Ready"
    short = {"down": "Not ready", "busy": "Busy", "ok": "Ready"}[state]
    return {
        "state": state,
        "text": text,
        "short": short,
        "worker": worker,
        "model": model,
        "waiting": waiting,
        "running": running,
    }


@login_required
@require_GET
@never_cache
def status(request: SignedInRequest) -> HttpResponse:
    """Worker, queue and model, as a page or as JSON for the status light in the top bar."""
    found = _status()
    if request.accepts("text/html"):
        model = ModelVersion.objects.filter(is_active=True).first()
        return render(request, "cases/status.html", {"status": found, "active_model": model})
    return JsonResponse(found)


@login_required
@require_POST
def theme(request: SignedInRequest) -> HttpResponse:
    """Switch the theme and go back to the previous page."""
    wanted = request.POST.get("theme", "")
    if wanted in Theme.values:
        request.user.theme = wanted
        request.user.save(update_fields=["theme"])
    back = page_before(request)
    return redirect(back or "cases:history")
