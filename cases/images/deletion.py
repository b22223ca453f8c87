"""Deletion of stored files. Pending deletions are recorded in the database, so that a failed one is retried."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.files.storage import default_storage
from django.db import models, transaction
from django.utils import timezone

from cases.limits.housekeeping import queue_once
from cases.models import PendingFileDeletion

log = logging.getLogger(__name__)

#: Time after which a worker takes over a pending deletion, and seconds between its attempts.
PATIENCE = timedelta(minutes=5)
EVERY = 60
#: Rows per query: databases limit the number of parameters.
BATCH = 1000
#: Failures after which the remaining files are left for the next attempt.
GIVE_UP = 5


def remove(names: Iterable[str]) -> None:
    """Delete files when the current transaction commits. A worker retries what fails."""
    wanted = list(names)
    PendingFileDeletion.objects.bulk_create([PendingFileDeletion(name=name) for name in wanted], ignore_conflicts=True)
    transaction.on_commit(partial(delete, wanted), robust=True)


def delete(names: list[str]) -> int:
    """Delete files, and their pending records if they have any. Stops after :data:`GIVE_UP` failures. Returns the
    number of files deleted."""
    gone, failed = [], []
    try:
        for name in names:
            try:
                # A missing file is not an error.
                default_storage.delete(name)
                gone.append(name)
            except OSError as error:
                failed.append(name)
                log.warning("A file could not be deleted yet: %s", error)
                if len(failed) == GIVE_UP:
                    # The others would probably fail too, and each attempt may take long.
                    break
    finally:
        # Failed ones are retried last.
        PendingFileDeletion.objects.filter(name__in=failed).update(asked_at=timezone.now())
        for first in range(0, len(gone), BATCH):
            PendingFileDeletion.objects.filter(name__in=gone[first : first + BATCH]).delete()
    return len(gone)


def again() -> int:
    """Retry pending deletions, at most :data:`BATCH`. Returns the number of files deleted."""
    return delete(list(left().values_list("name", flat=True)[:BATCH]))


def names() -> Iterable[str]:
    """Names of all files whose deletion is pending."""
    return PendingFileDeletion.objects.values_list("name", flat=True)


def left() -> models.QuerySet[PendingFileDeletion]:
    """Deletions that have failed or were interrupted, oldest first."""
    return PendingFileDeletion.objects.filter(asked_at__lt=timezone.now() - PATIENCE).order_by("asked_at", "pk")


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Queue a retry if a deletion is overdue. Every running cluster sends this signal every few seconds."""
    if left().exists():
        queue_once("cases.images.deletion.again", EVERY)
