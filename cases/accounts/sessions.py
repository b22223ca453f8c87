"""The client's address, and whether a session is still open."""

from __future__ import annotations

import ipaddress
import re

from django.conf import settings
from django.http import HttpRequest

#: Some proxies append a port: "192.0.2.1:443" or "[2001:db8::1]:443".
WITH_PORT = re.compile(r"\[(?P<v6>[^\]]+)\](:\d+)?|(?P<v4>[\d.]+):\d+")


def client_ip(request: HttpRequest) -> str | None:
    """The address from which the outermost of our proxies (``NUM_PROXIES``) was called; None if it can't be parsed.

    A proxy that calls on its own behalf, for example for a health check, appears with its own address.
    """
    passed = request.headers.get("X-Forwarded-For", "").split(",")[-settings.NUM_PROXIES :]
    named = passed[0] if settings.NUM_PROXIES and passed[0].strip() else request.META.get("REMOTE_ADDR", "")
    found = WITH_PORT.fullmatch(named.strip())
    try:
        return str(ipaddress.ip_address((found["v6"] or found["v4"]) if found else named.strip()))
    except ValueError:
        return None


def is_session_open(request: HttpRequest) -> bool:
    """Whether the request's session still exists in the database; it may have been ended since the request began."""
    key = request.session.session_key
    return key is not None and request.session.exists(key)
