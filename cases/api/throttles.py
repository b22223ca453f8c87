"""How often somebody may call. Rates are settings; an answer over them says when to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView


class Anonymous(AnonRateThrottle):
    """Calls without an account, by address."""


class User(UserRateThrottle):
    """All calls of an account."""

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        return super().get_cache_key(request, view) if request.user.is_authenticated else None


class Predictions(User):
    """Calls of an account that send images."""

    scope = "predict"


class SignIn(AnonRateThrottle):
    """Attempts to exchange a password for a token, by address."""

    scope = "sign_in"
