"""Template variables of every page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from cases.models import Theme, User


def site(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    return {
        "theme": user.theme if isinstance(user, User) else Theme.AUTO,
        "version": settings.VERSION,
        "signup_open": settings.SIGNUP_OPEN,
    }
