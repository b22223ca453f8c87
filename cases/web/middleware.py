"""Middleware of the pages: time zone, session checks, size limit, character encoding, error pages."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from typing import Any

from allauth.usersessions.middleware import UserSessionsMiddleware
from django.conf import settings
from django.contrib.auth import logout
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone

from cases.accounts.permissions import is_unchanged
from cases.accounts.sessions import is_session_open
from cases.limits import quotas
from cases.models import User

#: Seconds between two records of a session's activity.
ACTIVITY_SECONDS = 60


class TimeZoneMiddleware:
    """Shows times in the user's time zone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if isinstance(request.user, User):
            try:
                timezone.activate(zoneinfo.ZoneInfo(request.user.time_zone))
            except (zoneinfo.ZoneInfoNotFoundError, ValueError):
                timezone.deactivate()
        else:
            timezone.deactivate()
        return self.get_response(request)


class StillSignedInMiddleware:
    """Checks again that the user is signed in once a form has arrived: during a slow upload, the account may have been
    deactivated, its password changed or the session ended. Comes after the CSRF middleware, which reads the form."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: Any) -> None:
        if request.method != "POST" or not isinstance(request.user, User):
            return
        if not is_unchanged(request.user) or not is_session_open(request):
            logout(request)
            raise PermissionDenied


class SessionActivityMiddleware(UserSessionsMiddleware):
    """Records a session's activity once a minute. allauth writes a row at every request, and a page that polls or loads
    tiles makes many."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.session.session_key
        if key and request.user.is_authenticated and cache.add(f"session-activity:{key}", True, ACTIVITY_SECONDS):
            return super().__call__(request)
        return self.get_response(request)


class TooLargeMiddleware:
    """Refuses a form that exceeds the size limit before reading it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if length.isdigit() and int(length) > settings.UPLOAD_MAX_REQUEST_BYTES:
            return render(request, "413.html", status=413)
        return self.get_response(request)


class CharsetMiddleware:
    """Decodes requests as UTF-8 only. Django would use any Python codec that a request names; some take minutes for a
    megabyte, and some are not text encodings.

    JSON is always UTF-8 and multipart has no charset parameter (RFC 8259, RFC 7578), so what the client states is
    ignored there. A URL-encoded form in another encoding is refused with 415, because it would be misread.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        named = (request.content_params or {}).get("charset")
        if named is not None:
            request.encoding = "utf-8"
            is_form = request.content_type == "application/x-www-form-urlencoded"
            has_body = request.method not in ("GET", "HEAD", "OPTIONS")
            if is_form and has_body and named.strip().lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
                said = "This character encoding is not supported. Send the form as UTF-8."
                return HttpResponse(said, status=415, content_type="text/plain; charset=utf-8")
        return self.get_response(request)


class MethodMiddleware:
    """An error page for a 405, which Django answers with an empty body."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self.get_response(request)
        if answer.status_code != 405 or answer.content or not request.accepts("text/html"):
            return answer
        answer.content = render_to_string("405.html", request=request).encode()
        return answer


class BusyMiddleware:
    """Answers 429 if the server is busy. The API's views answer in their own format."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return quotas.answer(request, error) if isinstance(error, quotas.CapacityExceeded) else None
