"""Authentication by the token in the ``Authorization`` header."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.parsers import JSONParser
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request

from cases.accounts import tokens
from cases.accounts.permissions import is_unchanged
from cases.accounts.sessions import is_session_open
from cases.models import ApiToken, User


class TokenAuthentication(KnoxTokenAuthentication):
    """Extends knox: one indexed look-up instead of a search, a separate error for expired tokens (which stay listed
    until they are revoked), and a record of the last use."""

    def authenticate_credentials(self, token: bytes) -> tuple[User, ApiToken]:
        try:
            digest = hash_token(token.decode("ascii"))
        except UnicodeDecodeError as error:
            raise AuthenticationFailed("The token is not valid.", "token_invalid") from error
        found = ApiToken.objects.select_related("user").filter(digest=digest).first()
        if found is None or not found.user.is_active:
            raise AuthenticationFailed("The token is not valid.", "token_invalid")
        if found.expiry is not None and found.expiry <= timezone.now():
            raise AuthenticationFailed("The token has expired; create a new one.", "token_expired")
        tokens.note_use(found)
        return found.user, found


def recheck_authentication(request: Request) -> None:
    """Check again once the whole request has arrived. A body may be sent slowly, and the token may be revoked, or the
    password, the rights or the account changed, in the meantime. Raises ``AuthenticationFailed``."""
    if isinstance(request.auth, ApiToken):
        is_valid = ApiToken.objects.filter(pk=request.auth.pk).exists()
    else:
        is_valid = is_session_open(request._request)
    if not is_valid or not is_unchanged(person(request)):
        raise AuthenticationFailed("The token is not valid.", "token_invalid")


class IsStillAuthenticated(IsAuthenticated):
    """Signed in, and still so when the request body has arrived. Upload views read the body and check it themselves."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        if request.method not in SAFE_METHODS and JSONParser in view.parser_classes:
            _ = request._request.body  # not parsed: a call without a body, such as DELETE, may state any type
            recheck_authentication(request)
        return True


def person(request: Request) -> User:
    """The calling user, in views that require an account."""
    assert isinstance(request.user, User)
    return request.user
