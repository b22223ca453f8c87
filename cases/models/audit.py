"""The record of who did what, when and from where: rows of both the timeline and the audit trail.

One table serves both: a case's timeline leaves out the owner's own views. The table is append-only, and its
rows outlive what they refer to. It names people and addresses by random keys only; the
mapping from key to person (:class:`Pseudonym`) and the text of an event (``detail``) can be erased. The hash
chain of :mod:`cases.audit` stays valid, because it contains the keys and a salted digest of the text.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from datetime import UTC
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone


class Pseudonym(models.Model):
    """The person or network address behind a key of the audit trail. Deleting the row erases them from the trail."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="identity", editable=False
    )
    address = models.GenericIPAddressField(null=True, unique=True, editable=False)

    class Meta:
        verbose_name_plural = "pseudonyms"

    def __str__(self) -> str:
        return str(self.user or self.address)


class AuditCheckpoint(models.Model):
    """A link of the hash chain: covers the events written since the previous checkpoint."""

    made_at = models.DateTimeField(default=timezone.now)
    count = models.PositiveIntegerField()
    #: Hash of the previous checkpoint, 64 zeros for the first; unique, so that the chain can't fork.
    previous = models.CharField(max_length=64, unique=True)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"Checkpoint {self.pk}: {self.hash[:12]}"


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def timeline(self) -> AuditEventQuerySet:
        """Events shown on the case's page: all but the owner's own views."""
        own = models.Q(kind=AuditEvent.Kind.VIEWED, actor__user=models.F("case__owner"))
        return self.select_related("actor__user").exclude(own)


class AuditEvent(models.Model):
    """An audit event. Written once, never changed."""

    class Kind(models.TextChoices):
        CREATED = "created", "Case created"
        ADDED = "added", "Images added"
        REMOVED = "removed", "Image deleted"
        EDITED = "edited", "Details changed"
        REQUESTED = "requested", "Analysis requested"
        ANALYSED = "analysed", "Analysis finished"
        REVIEWED = "reviewed", "Reading signed"
        ASSIGNED = "assigned", "Reviewer assigned"
        VIEWED = "viewed", "Viewed"
        REPORTED = "reported", "Report created"
        EXPORTED = "exported", "Data exported"
        DELETED = "deleted", "Case deleted"
        SIGNED_IN = "signed_in", "Signed in"
        REFUSED = "refused", "Sign-in refused"
        ASKED = "asked", "Password accepted, one-time code requested"
        SIGNED_OUT = "signed_out", "Signed out"
        ACCOUNT = "account", "Account changed"
        ADMIN = "admin", "Changed in the administration"
        ERASED = "erased", "Account erased"

    #: Without constraints on case and keys, because an event outlives what it refers to.
    case = models.ForeignKey(
        "cases.Case", on_delete=models.DO_NOTHING, null=True, db_constraint=False, related_name="events"
    )
    kind = models.CharField(max_length=10, choices=Kind.choices)
    actor = models.ForeignKey(
        Pseudonym, on_delete=models.DO_NOTHING, null=True, blank=True, db_constraint=False, related_name="+"
    )
    address = models.ForeignKey(
        Pseudonym, on_delete=models.DO_NOTHING, null=True, blank=True, db_constraint=False, related_name="+"
    )
    #: The slide, analysis or report in question, if not the case as a whole; for assignments, the reader's key.
    about = models.UUIDField(null=True, blank=True)
    detail = models.CharField(max_length=200, blank=True)
    salt = models.CharField(max_length=32, blank=True)
    detail_digest = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now)
    checkpoint = models.ForeignKey(
        AuditCheckpoint, on_delete=models.PROTECT, null=True, related_name="events", editable=False
    )

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["id"], condition=models.Q(checkpoint=None), name="event_unsealed")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.detail}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("Audit events can't be changed.")
        self.take_digest()
        super().save(*args, **kwargs)

    def take_digest(self) -> None:
        """Compute the salted digest of the text. Call it before the row is written."""
        self.salt = secrets.token_hex(16)
        self.detail_digest = digest_of(self.salt, self.detail)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("Audit events can't be deleted.")

    @property
    def line(self) -> str:
        """The event as the hash chain covers it: canonical JSON."""
        return json.dumps(
            [
                self.pk,
                self.at.astimezone(UTC).isoformat(timespec="microseconds"),
                self.kind,
                _text(self.case_id),
                _text(self.about),
                _text(self.actor_id),
                _text(self.address_id),
                self.detail_digest,
            ],
            separators=(",", ":"),
        )

    @property
    def matches_digest(self) -> bool:
        """Whether the text is unchanged; true also if it was erased."""
        if not self.salt:
            return not self.detail
        return digest_of(self.salt, self.detail) == self.detail_digest


def digest_of(salt: str, detail: str) -> str:
    """SHA-256 of an event's text, salted so that erased text can't be found by guessing."""
    return hashlib.sha256(f"{salt}:{detail}".encode()).hexdigest()


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
