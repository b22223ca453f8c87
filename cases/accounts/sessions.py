"""Where a request comes from, and whether its session is still open."""

from __future__ import annotations

from allauth.core.internal.httpkit import clean_client_ip
from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str | None:
    """Whoever called the first of one's own proxies (``NUM_PROXIES``), or one of those where it calls by itself."""
    passed = request.headers.get("X-Forwarded-For", "").split(",")[-settings.NUM_PROXIES :]
    named = passed[0] if settings.NUM_PROXIES and passed[0].strip() else request.META.get("REMOTE_ADDR", "")
    return clean_client_ip(named)  # type: ignore[no-any-return]


def is_session_open(request: HttpRequest) -> bool:
    """Whether the session that was found when the request began is still there."""
    key = request.session.session_key
    return key is not None and request.session.exists(key)
