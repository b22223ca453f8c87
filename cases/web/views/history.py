"""The history of cases: search, filters and bulk actions."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Exists, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from cases import services
from cases.limits.quotas import CapacityExceeded
from cases.models import ApiToken, Case, Review, User
from cases.reporting import text
from cases.services import export
from cases.services.search import HistoryFilter, for_list
from cases.web.views.access import SignedInRequest, login_required, page_before
from inference.models import ModelVersion, Verdict
from inference.registry import NoModel

PAGE = 25
BULK_MAX = 500


@login_required
@require_GET
def history(request: SignedInRequest) -> HttpResponse:
    """The user's cases, newest first; all cases for a reviewer."""
    filters = HistoryFilter(request.user, request.GET, request)
    cases = filters.qs
    page = Paginator(for_list(cases, request.user), PAGE).get_page(request.GET.get("page"))
    totals = Case.objects.visible_to(request.user).aggregate(
        all=Count("pk"),
        open=Count("pk", filter=Q(open_count__gt=0)),
        **{verdict: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict.values},
    )
    model = ModelVersion.objects.filter(is_active=True).first()
    context = {
        "page": page,
        "filter": filters,
        "totals": totals,
        "active_model": model,
        "thresholds": text.thresholds(model) if model else "",
        "disclaimer": text.DISCLAIMER,
        "steps": first_steps(request.user) if request.user.show_hints else None,
    }
    return render(request, "cases/history.html", context)


def first_steps(user: User) -> dict[str, bool]:
    """The first steps for a new user, and whether each is done."""
    own = Case.objects.filter(owner=user)
    found = User.objects.filter(pk=user.pk).values(
        image=Exists(own.filter(slide_count__gt=0)),
        result=Exists(own.exclude(verdict="")),
        reading=Exists(Review.objects.filter(author=user)),
        token=Exists(ApiToken.objects.filter(user=user)),
    )
    return {step: bool(done) for step, done in found[0].items()}


@login_required
@require_GET
def export_history(request: SignedInRequest, form: str) -> HttpResponse:
    """All cases that match the filters, as CSV or JSON."""
    return export.response(HistoryFilter(request.user, request.GET, request).qs, request.user, form)


def _chosen(request: SignedInRequest) -> list[uuid.UUID]:
    chosen = []
    for value in request.POST.getlist("case")[:BULK_MAX]:
        try:
            chosen.append(uuid.UUID(value))
        except ValueError:
            continue
    return chosen


@login_required
@require_http_methods(["GET", "POST"])
def bulk(request: SignedInRequest) -> HttpResponse:
    """Re-analyse, export or delete the selected cases. Deleting asks for confirmation on a page at this URL; a GET,
    which a new sign-in leads to, goes back to the history."""
    if request.method == "GET":
        return redirect("cases:history")
    action = request.POST.get("action", "")
    back = page_before(request)
    chosen = _chosen(request)
    if not chosen:
        messages.warning(request, "No case is selected; nothing was changed.")
        return redirect(back or "cases:history")
    if action in ("csv", "json"):
        cases = Case.objects.visible_to(request.user).filter(pk__in=chosen)
        return export.response(cases, request.user, action)
    own = Case.objects.editable_by(request.user).filter(pk__in=chosen)
    if action == "delete" and not request.POST.get("confirmed"):
        context: dict[str, Any] = {"cases": own, "others": len(set(chosen)) - len(own), "next": back}
        return render(request, "cases/bulk_delete.html", context)
    if action == "delete":
        count = len(own)
        for case in own:
            services.remove_case(case, request.user)
        messages.success(request, f"{count} {'case was' if count == 1 else 'cases were'} deleted.")
    elif action == "rerun":
        analyse_again(request, list(own))
    else:
        messages.error(request, "Choose an action for the selected cases.")
    return redirect(back or "cases:history")


def analyse_again(request: HttpRequest, cases: list[Case]) -> None:
    """Queue all images of the cases and show the outcome as messages. Raises ``CapacityExceeded`` if a limit allowed
    none of them."""
    assert isinstance(request.user, User)
    queued, refused = 0, list[CapacityExceeded | NoModel]()
    for case in cases:
        slides = list(case.slides.all())
        if not slides:
            messages.warning(request, f"{case.title} has no images.")
            continue
        try:
            taken = len(services.request_again(case, slides, request.user))
        except (CapacityExceeded, NoModel) as error:
            refused.append(error)
            continue
        queued += 1
        if taken < len(slides):
            messages.warning(request, f"{case.title}: {text.partly(taken, len(slides))}")
    if refused and not queued and isinstance(refused[0], CapacityExceeded):
        raise refused[0]
    if refused:
        messages.error(request, f"{len(refused)} of {len(cases)} cases were not queued: {refused[0]}")
    if queued:
        messages.success(request, f"{queued} {'case was' if queued == 1 else 'cases were'} queued for analysis.")
