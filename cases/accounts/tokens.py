"""API tokens: several per user, each with a name and an expiry; shown once and stored as a hash."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from knox.models import get_digest_token
from knox.settings import CONSTANTS

from cases.accounts.permissions import lock
from cases.models import ApiToken

if TYPE_CHECKING:
    from cases.models import User

#: Validity of a new token in days; 0 means that it does not expire.
LIFETIMES = [(30, "30 days"), (90, "90 days"), (365, "1 year"), (0, "Never")]
DEFAULT_DAYS = 90
MAX_DAYS = 3650
#: Minimum time between two updates of a token's last use.
NOTE_USE_EVERY = timedelta(minutes=1)


def create(user: User, name: str, days: int = DEFAULT_DAYS) -> tuple[ApiToken, str]:
    """Create a token. Returns it with its plain text, which is not stored. ``days`` 0 means no expiry.

    Raises ``PermissionDenied`` as :func:`cases.accounts.permissions.lock` does: a new password revokes all tokens, and
    this one must not escape.
    """
    digest, plain = get_digest_token()
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=lock(user),
            name=name.strip()[:80] or "unnamed",
            digest=digest,
            token_key=plain[: CONSTANTS.TOKEN_KEY_LENGTH],
            expiry=timezone.now() + timedelta(days=days) if days else None,
        )
    return token, plain


def of(user: User) -> QuerySet[ApiToken]:
    """The user's tokens, newest first, including expired ones."""
    return ApiToken.objects.filter(user=user)


def revoke(user: User, pk: uuid.UUID) -> bool:
    """Delete a token of the user. Returns False if they have no such token."""
    return bool(of(user).filter(pk=pk).delete()[0])


def note_use(token: ApiToken) -> None:
    """Record that the token was used just now."""
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at >= NOTE_USE_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        token.last_used_at = now
