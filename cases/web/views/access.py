"""Access to cases and slides. Without access, the response is the same 404 as for one that does not exist."""

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
    """Whether the request comes from a script that expects JSON, not from a browser's form."""
    return request.accepts("application/json") and not request.accepts("text/html")


def login_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Like Django's, but if the session ended before a form was sent, signing in leads back to the page with the form,
    not to the URL it posts to. Scripts get the error as JSON."""

    @wraps(view)
    def asked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.method in ("GET", "HEAD"):
            return redirect_to_login(request.get_full_path())
        if wants_json(request):
            problem = {"filename": "", "code": "signed_out", "reason": "not uploaded: you are signed out"}
            return JsonResponse({"slides": [], "errors": [problem]}, status=401)
        messages.warning(request, "Your session has ended; nothing was saved. Sign in and submit the form again.")
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
    """Path of the page that a form names in its field ``next``; empty if it names none or one of another site."""
    page = request.POST.get("next", "")
    return page if _is_ours(request, page) and page.startswith("/") else ""


def get_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """A case that the user may read. Raises ``Http404``."""
    return get_object_or_404(Case.objects.visible_to(user).select_related("owner", "assigned_to"), pk=pk)


def get_own_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """A case that the user may change. Raises ``Http404``."""
    return get_object_or_404(Case.objects.editable_by(user), pk=pk)


def lock_own_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """The same, locked against other changes until the transaction ends."""
    return get_object_or_404(Case.objects.editable_by(user).for_change(), pk=pk)


def get_slide(user: User | AnonymousUser, pk: uuid.UUID) -> Slide:
    """A slide that the user may read. Raises ``Http404``."""
    return get_object_or_404(Slide.objects.visible_to(user).select_related("case", "case__owner"), pk=pk)


def get_own_slide(user: User | AnonymousUser, pk: uuid.UUID) -> Slide:
    """A slide that the user may change. Raises ``Http404``."""
    return get_object_or_404(Slide.objects.editable_by(user).select_related("case"), pk=pk)
