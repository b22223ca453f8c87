"""What programs sent in one call, so that a repeated call finds the same analysis again."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone


class Submission(models.Model):
    """One upload call of the API.

    ``fingerprint`` is a SHA-256 over the files and settings sent. ``case`` is empty while the files
    are still being stored. ``rejected`` lists the files that were not taken.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField("idempotency key", max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64)
    case = models.ForeignKey("cases.Case", on_delete=models.CASCADE, null=True, related_name="submissions")
    analysis = models.ForeignKey("inference.Analysis", on_delete=models.CASCADE, null=True, related_name="+")
    rejected = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], condition=~Q(key=""), name="one_idempotency_key"),
        ]

    def __str__(self) -> str:
        return self.key or str(self.id)
