"""Upload calls of the API, recorded so that a repeated call finds the same analysis."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

#: Longer than one image can take to wait for a decoder, to be decoded and to be stored.
LEASE = timedelta(minutes=4)


class SubmissionExpired(Exception):
    """The call was given up before all its files were stored."""

    def __init__(self) -> None:
        super().__init__("The call was abandoned, because it took too long or its case was deleted. Send it again.")


class Submission(models.Model):
    """One upload call of the API.

    ``fingerprint`` is a SHA-256 over the files and settings sent. ``rejected`` lists the files that were not accepted.
    While files are being stored, ``receiving_until`` is a lease that each file renews. If it expires, the process has
    died without answering, and what it stored is deleted.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField("idempotency key", max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64)
    case = models.ForeignKey("cases.Case", on_delete=models.CASCADE, null=True, related_name="submissions")
    analysis = models.ForeignKey("inference.Analysis", on_delete=models.CASCADE, null=True, related_name="+")
    rejected = models.JSONField(default=list)
    receiving_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["receiving_until"], condition=Q(receiving_until__isnull=False), name="receiving"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], condition=~Q(key=""), name="one_idempotency_key"),
        ]

    def __str__(self) -> str:
        return self.key or str(self.id)

    @property
    def is_received(self) -> bool:
        """Whether all its files were processed."""
        # Rows of earlier versions have no case until then.
        return self.receiving_until is None and self.case_id is not None

    @property
    def is_dead(self) -> bool:
        """Whether the process that received it has died."""
        until = self.receiving_until or self.created_at + LEASE
        return not self.is_received and until < timezone.now()

    def renew(self) -> None:
        """Extend the lease. Raises :class:`SubmissionExpired`."""
        until = timezone.now() + LEASE
        self._change(receiving_until=until)
        self.receiving_until = until

    def complete(self, analysis: Any, rejected: list[dict[str, str]]) -> None:
        """Record that all its files were processed. Raises :class:`SubmissionExpired`."""
        self._change(receiving_until=None, analysis=analysis, rejected=rejected)
        self.receiving_until, self.analysis, self.rejected = None, analysis, rejected

    def give_up(self) -> bool:
        """Stop the receiving process from continuing, in case it is still alive. False if it has continued, or if
        somebody else has given the call up."""
        try:
            # Rows of earlier versions have no lease to renew.
            self._change(receiving_until=timezone.now() + LEASE)
        except SubmissionExpired:
            return False
        return True

    def _change(self, **values: Any) -> None:
        same = type(self).objects.filter(pk=self.pk, receiving_until=self.receiving_until)
        if not same.update(**values):
            raise SubmissionExpired
