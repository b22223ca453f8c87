"""allauth's forms for passwords and codes, with stricter rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.account import forms
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.core import context, ratelimit
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base import forms as mfa_forms
from allauth.mfa.models import Authenticator
from django.core.validators import MaxLengthValidator

from cases.accounts.adapters import LONGEST_EMAIL
from cases.models import User


class LoginForm(forms.LoginForm):
    """Rejects names that are too long to exist."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].validators.append(MaxLengthValidator(LONGEST_EMAIL))


class ChangePasswordForm(forms.ChangePasswordForm):
    """Counts and records wrong old passwords like those at sign-in."""

    def clean_oldpassword(self) -> str:
        password: str = self.cleaned_data.get("oldpassword", "")
        if not get_adapter().reauthenticate(self.user, password):
            raise get_adapter().validation_error("enter_current_password")
        # Django may have upgraded the hash while it checked the password.
        self.user.refresh_from_db(fields=["password"])
        if not self.user.check_password(password):
            raise get_adapter().validation_error("enter_current_password")
        return password


class ResetPasswordForm(forms.ResetPasswordForm):
    """Sends links only to the account's own address or a verified one, and only to accounts that have a password."""

    users: list[User]

    def clean_email(self) -> str:
        email: str = super().clean_email()
        verified = EmailAddress.objects.filter(email__iexact=email, verified=True).values_list("user_id", flat=True)
        self.users = [
            user
            for user in self.users
            if user.has_usable_password() and (user.email.lower() == email.lower() or user.pk in verified)
        ]
        return email


class _Code:
    """Counts wrong codes together with wrong passwords, and keeps the count after a right code.

    allauth clears it, so an attacker could clear the count of their address with an account of their own.
    """

    user: User
    cleaned_data: dict[str, str]
    _emit_authentication_failed: Callable[[Authenticator], None]

    def clean_code(self) -> str:
        code = self.cleaned_data["code"]
        limit = {"action": "login_failed", "key": f"mfa-auth-user-{self.user.pk}"}
        if not ratelimit.consume(context.request, **limit, dry_run=True):
            raise get_adapter().validation_error("too_many_login_attempts")
        # One-time codes first: only their failure is reported, not that of the recovery codes as well.
        factors = sorted(Authenticator.objects.filter(user=self.user), key=lambda one: one.type != one.Type.TOTP)
        for factor in factors:
            if factor.wrap().validate_code(code):
                factor.user = self.user
                self.authenticator = factor
                return code
        ratelimit.consume(context.request, **limit)
        if factors:
            self._emit_authentication_failed(factors[0])
        raise get_mfa_adapter().validation_error("incorrect_code")


class CodeForm(_Code, mfa_forms.BaseAuthenticateForm):
    """The code of an API sign-in."""


class AuthenticateForm(_Code, mfa_forms.AuthenticateForm):
    """The code of a sign-in on the pages."""


class ReauthenticateForm(_Code, mfa_forms.ReauthenticateForm):
    """The code that confirms a sensitive action."""
