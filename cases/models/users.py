"""People with an account."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models

from cases.models.choices import Magnification, Theme
from cases.models.tokens import ApiToken


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"“{name}” is not a time zone. Examples: UTC, Europe/Berlin.")


class User(AbstractUser):
    """A person with an account, and their preferences."""

    theme = models.CharField(max_length=5, choices=Theme.choices, default=Theme.AUTO)
    default_magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    time_zone = models.CharField(
        max_length=50,
        blank=True,
        validators=[validate_time_zone],
        help_text="Leave blank to use the server’s time zone.",
    )
    show_hints = models.BooleanField("show first steps on the history page", default=True)

    #: Whether saving a new password deleted API tokens.
    tokens_ended = False

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Forms of existing accounts pass ``update_fields``, so that they overwrite nothing that changed meanwhile.

        Without it, all columns are updated; an account that was deleted meanwhile is not inserted again.
        """
        if not self._state.adding and kwargs.get("update_fields") is None:
            kwargs["force_update"] = True
        has_new_password = self._password is not None
        super().save(*args, **kwargs)
        if has_new_password:
            # In every case, because somebody who knew the old password may have created a token.
            self.tokens_ended = bool(ApiToken.objects.filter(user=self).delete()[0])

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        # Django's sign that a new password has not been saved yet.
        self._password = ""

    @property
    def signature(self) -> str:
        """Full name and username."""
        name = self.get_full_name()
        return f"{name} ({self.username})" if name else self.username

    @property
    def is_reviewer(self) -> bool:
        """Whether this person may read every case, not only their own."""
        return self.has_perm("cases.review_cases")
