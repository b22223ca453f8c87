"""Agreement between readings and model results."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from cases.reporting import agreement as figures
from cases.reporting import charts
from cases.web.views.access import SignedInRequest, login_required
from inference.models import Verdict


@login_required
@require_GET
def statistics(request: SignedInRequest) -> HttpResponse:
    """Statistics of the user's own cases; for a reviewer, of all cases."""
    found = figures.compute(figures.latest_reviews(request.user))
    context = {"found": found, "verdicts": Verdict.choices, "few": figures.FEW, "charts": charts.statistics(found)}
    return render(request, "cases/statistics.html", context)
