"""Tokens with which programs sign in: several a person, named, shown once, kept as a hash."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models, transaction
from django.db.models import QuerySet
from django.utils import timezone
from knox.models import AbstractAuthToken, get_digest_token
from knox.settings import CONSTANTS

from .accounts import hold

if TYPE_CHECKING:
    from .models import User

#: Days that a new token may live; 0 means that it does not expire.
LIFETIMES = [(30, "30 days"), (90, "90 days"), (365, "1 year"), (0, "Until revoked")]
DEFAULT_DAYS = 90
MAX_DAYS = 3650
#: A token's last use is written down at most this often.
NOTE_USE_EVERY = timedelta(minutes=1)


class ApiToken(AbstractAuthToken):
    """One token. Only its SHA-512 digest is stored; ``token_key`` is its readable beginning.

    A token holds 256 bits of randomness, so a plain hash keeps it safe: there is nothing to guess.
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
        """The first characters, by which a person tells one token from another."""
        return f"{self.token_key[:8]}…"


def create(user: User, name: str, days: int = DEFAULT_DAYS) -> tuple[ApiToken, str]:
    """A new token and its plain text, which can't be shown again. ``days`` 0 means no expiry.

    Raises ``PermissionDenied`` as :func:`cases.accounts.hold` does: a new password ends all tokens, this one too.
    """
    digest, plain = get_digest_token()
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=hold(user),
            name=name.strip()[:80] or "unnamed",
            digest=digest,
            token_key=plain[: CONSTANTS.TOKEN_KEY_LENGTH],
            expiry=timezone.now() + timedelta(days=days) if days else None,
        )
    return token, plain


def of(user: User) -> QuerySet[ApiToken]:
    """A person's tokens, newest first, expired ones included."""
    return ApiToken.objects.filter(user=user)


def revoke(user: User, pk: uuid.UUID) -> bool:
    """Delete a token of this person; False where there is none."""
    return bool(of(user).filter(pk=pk).delete()[0])


def note_use(token: ApiToken) -> None:
    """Remember that the token was used just now."""
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at >= NOTE_USE_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        token.last_used_at = now
