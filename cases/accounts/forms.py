"""allauth's forms for passwords and codes, where they ask for less than this application does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.account import forms
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.core.internal import ratelimit
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base import forms as mfa_forms
from allauth.mfa.models import Authenticator
from django.core.validators import MaxLengthValidator

from cases.accounts.adapters import LONGEST_EMAIL
from cases.models import User


class LoginForm(forms.LoginForm):  # type: ignore[misc]
    """Looks for no name that nobody can have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].validators.append(MaxLengthValidator(LONGEST_EMAIL))


class ChangePasswordForm(forms.ChangePasswordForm):  # type: ignore[misc]
    """Wrong old passwords are counted and noted as at the sign-in."""

    def clean_oldpassword(self) -> str:
        password: str = self.cleaned_data.get("oldpassword", "")
        if not get_adapter().reauthenticate(self.user, password):
            raise get_adapter().validation_error("enter_current_password")
        # Its hash may have been renewed on the way.
        self.user.refresh_from_db(fields=["password"])
        if not self.user.check_password(password):
            raise get_adapter().validation_error("enter_current_password")
        return password


class ResetPasswordForm(forms.ResetPasswordForm):  # type: ignore[misc]
    """A link goes to the account's own address or to one that was verified, and not where a password was ruled out."""

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
    """A right code forgives neither the address's wrong passwords nor the account's wrong codes, as allauth's would:
    with an account of one's own one could begin to count anew whenever one likes."""

    user: User
    cleaned_data: dict[str, str]
    _emit_authentication_failed: Callable[[Authenticator], None]

    def clean_code(self) -> str:
        code = self.cleaned_data["code"]
        key = f"mfa-auth-user-{self.user.pk}"
        usage = ratelimit.consume(context.request, app="allauth.account", action="login_failed", key=key)
        if not usage:
            raise get_adapter().validation_error("too_many_login_attempts")
        # The one-time codes' failure is told of, if there are any, and not also that of the recovery codes.
        factors = sorted(Authenticator.objects.filter(user=self.user), key=lambda one: one.type != one.Type.TOTP)
        for factor in factors:
            if factor.wrap().validate_code(code):
                factor.user = self.user
                self.authenticator = factor
                usage.rollback()
                return code
        if factors:
            self._emit_authentication_failed(factors[0])
        raise get_mfa_adapter().validation_error("incorrect_code")


class CodeForm(_Code, mfa_forms.BaseAuthenticateForm):  # type: ignore[misc]
    pass


class AuthenticateForm(_Code, mfa_forms.AuthenticateForm):  # type: ignore[misc]
    pass


class ReauthenticateForm(_Code, mfa_forms.ReauthenticateForm):  # type: ignore[misc]
    pass
