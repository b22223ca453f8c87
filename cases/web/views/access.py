"""Which case or slide a request may have: 404 for everybody else, as if it were not there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.http import url_has_allowed_host_and_scheme

from cases.models import Case, Slide, User


class SignedInRequest(HttpRequest):
    """A request behind ``login_required``."""

    user: User


def wants_json(request: HttpRequest) -> bool:
    """Whether a script asks, not a browser's form."""
    return request.accepts("application/json") and not request.accepts("text/html")


def login_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Django's, but whose session ended while they wrote comes back to the page of the form, not to the address that
    takes it; and a script is told in its own format."""

    @wraps(view)
    def asked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.method in ("GET", "HEAD"):
            return redirect_to_login(request.get_full_path())
        if wants_json(request):
            problem = {"filename": "", "code": "signed_out", "reason": "was not taken: you are signed out"}
            return JsonResponse({"slides": [], "errors": [problem]}, status=401)
        messages.warning(request, "You were signed out meanwhile, so nothing was recorded. Sign in and send it again.")
        return redirect_to_login(_page_of_the_form(request))

    return asked


def _is_ours(request: HttpRequest, page: str) -> bool:
    return url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())


def _page_of_the_form(request: HttpRequest) -> str:
    came_from = request.headers.get("Referer", "")
    if not _is_ours(request, came_from):
        return "/"
    found = urlsplit(came_from)
    return f"{found.path}?{found.query}" if found.query else found.path


def page_before(request: HttpRequest) -> str:
    """The page of this site that a form says it stands on, by its path; empty where it says none."""
    page = request.POST.get("next", "")
    return page if _is_ours(request, page) and page.startswith("/") else ""


def get_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """A case this person may read."""
    return get_object_or_404(Case.objects.visible_to(user).select_related("owner", "assigned_to"), pk=pk)


def get_own_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """A case this person may change."""
    return get_object_or_404(Case.objects.editable_by(user), pk=pk)


def hold_own_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """The same, within a transaction and for no other's change until that ends."""
    return get_object_or_404(Case.objects.editable_by(user).for_change(), pk=pk)


def get_slide(user: User | AnonymousUser, pk: uuid.UUID) -> Slide:
    """A slide this person may read."""
    return get_object_or_404(Slide.objects.visible_to(user).select_related("case", "case__owner"), pk=pk)


def get_own_slide(user: User | AnonymousUser, pk: uuid.UUID) -> Slide:
    """A slide this person may change."""
    return get_object_or_404(Slide.objects.editable_by(user).select_related("case"), pk=pk)
