"""allauth's forms that lead to a new password, where they ask for less than this application does."""

from __future__ import annotations

from allauth.account import forms
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress

from .models import User


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
