"""The caller's account and API tokens."""

from __future__ import annotations

import uuid
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.decorators import reauthentication_required
from allauth.account.utils import has_verified_email
from allauth.core.exceptions import ReauthenticationRequired
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.authentication import SessionAuthentication
from rest_framework.parsers import JSONParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases import audit
from cases.accounts import tokens
from cases.accounts.forms import CodeForm
from cases.models import ApiToken, AuditEvent, User

from .authentication import person
from .common import SignInThrottle
from .errors import Problem
from .resource_serializers import MeOut, NewTokenOut, SignInIn, TokenOut


@extend_schema(tags=["Account"])
class Me(APIView):
    @extend_schema(operation_id="me", summary="Your account and its limits", responses=MeOut)
    def get(self, request: Request) -> Response:
        return Response(MeOut(person(request)).data)


@extend_schema(exclude=True)
class SignedIn(APIView):
    """204 for a signed-in caller, else 401. The proxy asks before it accepts an upload."""

    throttle_classes = []

    def get(self, request: Request) -> Response:
        return Response(status=204)


@extend_schema(tags=["Account"])
@extend_schema_view(get=extend_schema(operation_id="tokens_list", summary="List your tokens"))
class Tokens(generics.ListAPIView[ApiToken]):
    serializer_class = TokenOut
    parser_classes = [JSONParser]
    filter_backends = []

    def get_queryset(self) -> QuerySet[ApiToken]:
        if getattr(self, "swagger_fake_view", False):
            return ApiToken.objects.none()
        return tokens.of(person(self.request))

    @extend_schema(
        operation_id="tokens_create",
        summary="Create a token",
        description="For a signed-in browser whose password was confirmed within the last five minutes. A token "
        "can't create tokens, so that a stolen one can't be extended; scripts use `POST /api/v1/sign-in`.",
        request=TokenOut,
        responses={201: NewTokenOut},
    )
    def post(self, request: Request) -> Response:
        given = TokenOut(data=request.data)
        given.is_valid(raise_exception=True)
        if not isinstance(request.successful_authenticator, SessionAuthentication):
            raise Problem("permission_denied", "A token can't create tokens. Sign in, or use POST /api/v1/sign-in.")
        try:
            _confirmed(request._request)
        except ReauthenticationRequired as error:
            raise Problem(
                "permission_denied", "Confirm your password first at /accounts/reauthenticate/ in this browser."
            ) from error
        return new_token(person(request), given.validated_data["name"], given.validated_data["days"])


@reauthentication_required
def _confirmed(request: HttpRequest) -> None:
    """Raises ``ReauthenticationRequired`` unless the password was confirmed recently: a token outlives the session, so
    an unattended browser must not be able to create one."""


def new_token(user: User, name: str, days: int) -> Response:
    token, plain = tokens.create(user, name, days)
    return Response({**TokenOut(token).data, "token": plain}, status=201, headers={"Cache-Control": "no-store"})


@extend_schema(tags=["Account"])
class TokenDetail(APIView):
    @extend_schema(
        operation_id="tokens_revoke",
        summary="Revoke a token",
        description="The token stops working at once, even if it is the one that you call with.",
        responses={204: OpenApiResponse(description="The token was revoked.")},
    )
    def delete(self, request: Request, pk: uuid.UUID) -> Response:
        if not tokens.revoke(person(request), pk):
            raise Http404
        return Response(status=204)


@extend_schema(tags=["Account"], auth=[])
class SignIn(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_classes = [SignInThrottle]
    parser_classes = [JSONParser]

    @extend_schema(
        operation_id="sign_in",
        summary="Exchange a password for a token",
        description="For scripts. The token is valid for one day unless `days` is given. Accounts with two-factor "
        "authentication also send the one-time `code`. Failed attempts count as on the sign-in page.",
        request=SignInIn,
        responses={201: NewTokenOut},
    )
    def post(self, request: Request) -> Response:
        given = SignInIn(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        user = _authenticate(request._request, values["username"], values["password"])
        _second_factor(user, values.get("code", ""))
        return new_token(user, values["name"], values["days"])


def _authenticate(request: HttpRequest, login: str, password: str) -> User:
    """The account. Checks and counts attempts as the sign-in page does."""
    credentials: dict[str, Any] = {"email" if "@" in login else "username": login, "password": password}
    try:
        user = get_adapter(request).authenticate(request, **credentials)
    except ValidationError as error:
        raise _too_many() from error
    if not isinstance(user, User) or not user.is_active:
        raise _refused("sign_in_failed", "Wrong username or password.")
    if settings.ACCOUNT_EMAIL_VERIFICATION == "mandatory" and not has_verified_email(user):
        audit.record(AuditEvent.Kind.REFUSED, actor=user, detail="E-mail address not verified")
        raise _refused("sign_in_failed", "The e-mail address is not verified yet.")
    return user


def _second_factor(user: User, code: str) -> None:
    factors = [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]
    if not is_mfa_enabled(user, factors):
        return
    if not code:
        audit.record(AuditEvent.Kind.ASKED, actor=user)
        raise _refused(
            "code_required", "This account uses two-factor authentication; send the one-time code as “code”."
        )
    form = CodeForm({"code": code}, user=user)
    if form.has_error("code", "too_many_login_attempts"):
        raise _too_many()
    if not form.is_valid():
        raise _refused("sign_in_failed", "Wrong one-time code.")
    form.authenticator.record_usage()


def _too_many() -> Problem:
    return Problem("throttled", "Too many failed attempts; try again in 5 minutes.", headers={"Retry-After": "300"})


def _refused(code: str, detail: str) -> Problem:
    return Problem(code, detail, headers={"WWW-Authenticate": "Token"})
