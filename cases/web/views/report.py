"""Reports: the PDF of a case, and verification of a printed one."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.text import slugify
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from cases.models import Case, Report
from cases.reporting import pdf as reports
from cases.reporting import text
from cases.web.views.access import SignedInRequest, get_case, login_required


@login_required
@require_GET
@never_cache
def report(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """The case as PDF, on A4 or letter paper."""
    found = get_case(request.user, pk)
    paper = request.GET.get("paper", "a4")
    if paper not in reports.PAPERS:
        paper = "a4"
    address = request.build_absolute_uri("/").rstrip("/")
    printed = reports.make(found, request.user, address, paper)
    if printed.missing:
        messages.warning(request, text.not_printed(printed.missing))
    answer = HttpResponse(printed.pdf, content_type="application/pdf")
    name = slugify(found.title) or "case"
    answer["Content-Disposition"] = f'inline; filename="{name}-{printed.report.sha256[:8]}.pdf"'
    return answer


@require_GET
@never_cache
def verify(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Checksum of a printed report, and whether the case is unchanged since.

    Public, because the holder of a printout may have no account; without access to the case, the page shows nothing
    of it.
    """
    found = get_object_or_404(Report.objects.select_related("case", "author"), pk=pk)
    unchanged = bool(found.author and reports.content_checksum(found.case, found.author, found.form) == found.sha256)
    may_see = Case.objects.visible_to(request.user).filter(pk=found.case_id).exists()
    context = {"report": found, "unchanged": unchanged, "may_see": may_see}
    return render(request, "cases/verify.html", context)
