"""allauth adapters: rules for sign-up and sign-in, mail, and encryption of two-factor secrets."""

from __future__ import annotations

import base64
import logging
import unicodedata
from collections.abc import Mapping
from smtplib import SMTPException
from typing import TYPE_CHECKING, Any

from allauth.account.adapter import DefaultAccountAdapter
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

#: Maximum length of an e-mail address; usernames are shorter.
LONGEST_EMAIL = 254
#: Session key: the hash of the password with which a sign-in began.
PROVED = "sign_in_proved"


class AccountAdapter(DefaultAccountAdapter):
    """Account rules beyond allauth's own."""

    #: Whether the user expects the mail that is sent.
    is_awaited = True

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_OPEN)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send a mail. A failure is logged, and shown to a user who expects the mail.

        The message is the same whether or not the account exists.
        """
        try:
            super().send_mail(template_prefix, email, context)
        except (OSError, SMTPException) as error:
            # The message of the exception may quote the address.
            log.error("A mail (%s) could not be sent (%s).", template_prefix, type(error).__name__)
            if self.request and self.is_awaited:
                text = "The e-mail could not be sent. Try again later."
                messages.error(self.request, text, fail_silently=True)

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Send a notification. The change that it reports is already stored, so a failure is only logged."""
        self.is_awaited = False
        super().send_notification_mail(*args, **kwargs)

    def get_client_ip(self, request: HttpRequest) -> str:
        address = client_ip(request)
        if address is None:
            raise PermissionDenied("The client's address is unknown: check NUM_PROXIES.")
        return address

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Count attempts per account, under whichever of its names, or per typed name if there is no such account.

        allauth's own key contains the host name, which the client chooses.
        """
        people = matching_users(credentials)
        typed = credentials.get("email") or credentials.get("username") or ""
        # Several accounts may claim an unverified address.
        return f"account:{people[0].pk}" if len(people) == 1 else f"typed:{typed.lower()}"

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        answer: HttpResponse | None = super().pre_login(request, user, **kwargs)
        request.session[PROVED] = user.get_session_auth_hash()
        if answer is None and is_mfa_enabled(user):
            # Recorded even if no code follows: somebody knows the password.
            password_accepted.send(type(user), user=user)
        return answer

    def login(self, request: HttpRequest, user: Any) -> None:
        """Complete a sign-in, unless the password was changed while it waited for a one-time code."""
        if not constant_time_compare(request.session.pop(PROVED, ""), user.get_session_auth_hash()):
            messages.error(request, "Your account was changed in the meantime. Sign in again.")
            raise ImmediateHttpResponse(redirect(settings.LOGIN_URL))
        super().login(request, user)

    def _delete_login_attempts_cached_email(self, request: HttpRequest, **credentials: Any) -> None:
        """Keep the count of failed attempts after a password reset.

        Otherwise an attacker could clear the count of their address with resets of their own account.
        """

    def is_safe_url(self, url: str | None) -> bool:
        try:
            return bool(super().is_safe_url(url))
        except ValueError:
            # Not a valid URL.
            return False

    def clean_email(self, email: str) -> str:
        if len(email) > LONGEST_EMAIL:
            # The database would truncate it to a different address.
            raise ValidationError(f"An e-mail address can have at most {LONGEST_EMAIL} characters.")
        return str(super().clean_email(email))

    def clean_username(self, username: str, shallow: bool = False) -> str:
        plain = unicodedata.normalize("NFKC", username)
        if plain != username:
            # It could look like another user's name.
            raise ValidationError(f"Use only plain characters in the username: {plain}")
        if "@" in username:
            # It could be another user's e-mail address, which also signs in.
            raise ValidationError("A username must not contain @.")
        return str(super().clean_username(username, shallow))

    def set_password(self, user: Any, password: str) -> None:
        with transaction.atomic():
            if user.pk:
                lock(user)
            user.set_password(password)
            user.save(update_fields=["password"] if user.pk else None)


def matching_users(credentials: Mapping[str, Any]) -> list[User]:
    """The accounts that the typed ``email`` or ``username`` belongs to."""
    people: list[User] = []
    if email := credentials.get("email"):
        people = filter_users_by_email(email, prefer_verified=True)
    if not people and (name := credentials.get("username")):
        people = list(get_user_model().objects.filter(username__iexact=name))
    return people


class MFAAdapter(DefaultMFAAdapter):
    """Encrypts the secrets of second factors, so that a copy of the database is not enough to sign in.

    The keys are derived from SECRET_KEY and, to read older secrets, SECRET_KEY_FALLBACKS.
    """

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    digests = (salted_hmac("cases.accounts.mfa", "key", secret=key, algorithm="sha256").digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
