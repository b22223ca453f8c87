"""Readings beside verdicts."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from cases import statcharts
from cases import statistics as figures
from inference.models import Verdict

from .access import SignedInRequest, login_required


@login_required
@require_GET
def statistics(request: SignedInRequest) -> HttpResponse:
    """Over one's own history; for a reviewer over everyone's."""
    found = figures.compute(figures.latest_reviews(request.user))
    context = {"found": found, "verdicts": Verdict.choices, "few": figures.FEW, "charts": statcharts.draw(found)}
    return render(request, "cases/statistics.html", context)
