"""Who may sign up, and who is a reviewer."""

from __future__ import annotations

import base64
import logging
import unicodedata
from collections.abc import Mapping
from smtplib import SMTPException
from typing import TYPE_CHECKING, Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal import stagekit
from allauth.account.utils import filter_users_by_email
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.utils import is_mfa_enabled
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare, salted_hmac

from cases.accounts.permissions import lock
from cases.accounts.sessions import client_ip
from cases.accounts.signals import password_accepted

if TYPE_CHECKING:
    from cases.models import User

log = logging.getLogger(__name__)

#: Characters of an e-mail address, which is longer than a user name may be.
LONGEST_EMAIL = 254
#: In the session of whoever is about to sign in: the password, hashed, that they proved.
PROVED = "sign_in_proved"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """allauth's hooks."""

    #: Whether somebody waits for the mail that is sent.
    is_awaited = True

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_OPEN)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Where it fails, whoever waits for it is told to ask again, the same whether there is an account or not."""
        try:
            super().send_mail(template_prefix, email, context)
        except (OSError, SMTPException) as error:
            # By its kind alone: its words quote the address.
            log.error("A mail (%s) could not be sent (%s).", template_prefix, type(error).__name__)
            if self.request and self.is_awaited:
                said = "The mail could not be sent at the moment. Try again later."
                messages.error(self.request, said, fail_silently=True)

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """The change that it tells of is done already, and holds without it."""
        self.is_awaited = False
        super().send_notification_mail(*args, **kwargs)

    def get_client_ip(self, request: HttpRequest) -> str:
        address = client_ip(request)
        if address is None:
            raise PermissionDenied("Nobody says from where this comes: see NUM_PROXIES.")
        return address

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """By the account, else by what was typed; not also by the host, as which callers name what they like."""
        people = meant(credentials)
        typed = credentials.get("email") or credentials.get("username") or ""
        # An address that several accounts claim is one way into all of them, whichever is looked at first.
        return f"account:{people[0].pk}" if len(people) == 1 else f"typed:{typed.lower()}"

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        answer: HttpResponse | None = super().pre_login(request, user, **kwargs)
        request.session[PROVED] = user.get_session_auth_hash()
        if answer is None and is_mfa_enabled(user):
            # Whether the code follows or not: who has the password should not go unseen.
            password_accepted.send(type(user), user=user)
        return answer

    def login(self, request: HttpRequest, user: Any) -> None:
        """Ends where the password was changed since it was typed: a code may have been waited for."""
        if not constant_time_compare(request.session.pop(PROVED, ""), user.get_session_auth_hash()):
            messages.error(request, "The account was changed meanwhile. Sign in again.")
            raise ImmediateHttpResponse(redirect(settings.LOGIN_URL))
        super().login(request, user)

    def _delete_login_attempts_cached_email(self, request: HttpRequest, **credentials: Any) -> None:
        """A reset forgives the account's wrong passwords no more than the address's: with an account of one's own one
        could begin to count anew whenever one likes. They are forgotten in five minutes."""

    def is_safe_url(self, url: str | None) -> bool:
        try:
            return bool(super().is_safe_url(url))
        except ValueError:
            # It is none at all.
            return False

    def clean_email(self, email: str) -> str:
        if len(email) > LONGEST_EMAIL:
            # It would be kept cut off, and be somebody else's.
            raise ValidationError(f"An address has at most {LONGEST_EMAIL} characters.")
        return str(super().clean_email(email))

    def clean_username(self, username: str, shallow: bool = False) -> str:
        plain = unicodedata.normalize("NFKC", username)
        if plain != username:
            # It looks like another's, or as it does not when it is typed elsewhere.
            raise ValidationError(f"Some of its characters have a plain form. Write it like this: {plain}")
        if "@" in username:
            # It could be somebody's address, by which they sign in.
            raise ValidationError("A user name has no @; the e-mail address has a field of its own.")
        return str(super().clean_username(username, shallow))

    def set_password(self, user: Any, password: str) -> None:
        with transaction.atomic():
            if user.pk:
                lock(user)
            super().set_password(user, password)
        if self.request:
            # What waits for a code here waits with the old one.
            stagekit.pop_login(self.request)


def meant(credentials: Mapping[str, Any]) -> list[User]:
    """Whose accounts somebody tries to get into, by the e-mail address or the user name that they typed."""
    people: list[User] = []
    if email := credentials.get("email"):
        people = filter_users_by_email(email, prefer_verified=True)
    if not people and (name := credentials.get("username")):
        people = list(get_user_model().objects.filter(username__iexact=name))
    return people


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Keeps the secrets of second factors encrypted, so that a copy of the database alone opens no account.

    The keys come from SECRET_KEY and, for what was written before it changed, SECRET_KEY_FALLBACKS.
    """

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    digests = (salted_hmac("cases.accounts.mfa", "key", secret=key, algorithm="sha256").digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
