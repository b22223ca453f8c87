"""People with an account."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from typing import Any, Self

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models

from cases.models.choices import Magnification, Theme
from cases.models.tokens import ApiToken


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"“{name}” is no time zone. Examples: UTC, Europe/Berlin.")


class User(AbstractUser):
    """A person with an account, and how they like the portal."""

    theme = models.CharField(max_length=5, choices=Theme.choices, default=Theme.AUTO)
    default_magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    time_zone = models.CharField(
        max_length=50, blank=True, validators=[validate_time_zone], help_text="The server’s own where it is empty."
    )
    show_hints = models.BooleanField("show the first steps above the cases", default=True)

    #: Whether the password that was saved last ended API tokens.
    tokens_ended = False
    #: What the database held of this row when it was read or written last, by field.
    _kept: dict[str, Any] = {}

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        user = super().from_db(*args, **kwargs)
        user._remember()
        return user

    def refresh_from_db(self, using: str | None = None, fields: Any = None, from_queryset: Any = None) -> None:
        super().refresh_from_db(using, fields, from_queryset)
        self._remember(fields)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Writes what was changed since it was read and nothing else: who sends a form slowly brings back neither
        rights, password or address that an administrator took meanwhile, nor an account that was erased."""
        if not self._state.adding and kwargs.get("update_fields") is None:
            kwargs["update_fields"] = [
                name for name, value in self._values().items() if name not in self._kept or self._kept[name] != value
            ]
        written, has_new_password = kwargs.get("update_fields"), self._password is not None
        super().save(*args, **kwargs)
        self._remember(written)
        if has_new_password:
            # Whoever set it where: who knew the old one may have made a token with it.
            self.tokens_ended = bool(ApiToken.objects.filter(user=self).delete()[0])

    def _values(self) -> dict[str, Any]:
        loaded = self.__dict__
        fields = self._meta.concrete_fields
        return {f.attname: loaded[f.attname] for f in fields if not f.primary_key and f.attname in loaded}

    def _remember(self, fields: Iterable[str] | None = None) -> None:
        values = self._values()
        kept = values if fields is None else {name: values[name] for name in fields if name in values}
        self._kept = {**self._kept, **kept}

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        # Django's mark of a new password that was not saved yet.
        self._password = ""

    @property
    def signature(self) -> str:
        """The name that they give themselves, and the one by which they are known."""
        name = self.get_full_name()
        return f"{name} ({self.username})" if name else self.username

    @property
    def is_reviewer(self) -> bool:
        """Whether this person reads every case, not only their own."""
        return self.has_perm("cases.review_cases")
