"""API tokens."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone
from knox.models import AbstractAuthToken


class ApiToken(AbstractAuthToken):
    """An API token. Only its SHA-512 digest and its first characters (``token_key``) are stored.

    A token has 256 random bits and can't be guessed, so an unsalted hash is enough.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=128, unique=True, editable=False)
    name = models.CharField(max_length=80)
    last_used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)

    objects = models.Manager["ApiToken"]()

    class Meta:
        ordering = ["-created"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return self.name

    @property
    def is_expired(self) -> bool:
        return self.expiry is not None and self.expiry <= timezone.now()

    @property
    def hint(self) -> str:
        """The first characters, which distinguish tokens in a list."""
        return f"{self.token_key[:8]}…"
