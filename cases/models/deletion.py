"""Files whose deletion is pending."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class PendingFileDeletion(models.Model):
    """A file of the store that nothing refers to any more."""

    name = models.CharField(max_length=255, unique=True)
    asked_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name
