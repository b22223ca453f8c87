"""The audit trail of a case, for its owner and for reviewers."""

from __future__ import annotations

import json
import uuid

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET

from cases import audit
from cases.models import AuditEvent
from cases.services.export import csv_response
from cases.web.views.access import SignedInRequest, get_case, login_required

PAGE = 100
COLUMNS = ["id", "at", "kind", "case", "about", "actor", "address", "detail", "checkpoint"]


@login_required
@require_GET
def trail(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """All events of a case, newest first, including views."""
    found = get_case(request.user, pk)
    events = found.events.select_related("actor__user", "address")
    page = Paginator(events, PAGE).get_page(request.GET.get("page"))
    return render(request, "cases/trail.html", {"case": found, "page": page})


@login_required
@require_GET
@cache_control(private=True, no_store=True)
def export(request: SignedInRequest, pk: uuid.UUID, form: str) -> HttpResponse:
    """The audit trail as CSV or JSON. The export is recorded in the trail."""
    if form not in ("csv", "json"):
        raise Http404("Choose csv or json.")
    found = get_case(request.user, pk)
    audit.record(AuditEvent.Kind.EXPORTED, found, request.user, f"Audit trail, {form.upper()}")
    rows = list(audit.rows(AuditEvent.objects.filter(case=found)))
    if form == "json":
        answer = HttpResponse(json.dumps({"events": rows}, indent=1), content_type="application/json")
    else:
        answer = csv_response(COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    answer["Content-Disposition"] = f'attachment; filename="trail-{found.pk}.{form}"'
    return answer
