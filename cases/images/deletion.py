"""Files of the store that are to go: written down with what they belonged to, so that each does, whatever fails."""

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

#: How long a removal is left to whoever asked for it, and seconds between two attempts after that.
PATIENCE = timedelta(minutes=5)
EVERY = 60
#: Rows at a time: databases allow no query of any length.
BATCH = 1000
#: Failures after which the store is left alone until the next attempt.
GIVE_UP = 5


def remove(names: Iterable[str]) -> None:
    """Delete files once this transaction is over; where that fails, a worker tries again until it does not."""
    wanted = list(names)
    PendingFileDeletion.objects.bulk_create([PendingFileDeletion(name=name) for name in wanted], ignore_conflicts=True)
    transaction.on_commit(partial(delete, wanted), robust=True)


def delete(names: list[str]) -> int:
    """Delete files, whether they were written down or not, until too many fail. Returns how many are gone."""
    gone, failed = [], []
    try:
        for name in names:
            try:
                # One that is gone already is no error.
                default_storage.delete(name)
                gone.append(name)
            except OSError as error:
                failed.append(name)
                log.warning("A file could not be deleted yet: %s", error)
                if len(failed) == GIVE_UP:
                    # The others would fail as well, and each may take long.
                    break
    finally:
        # Those that failed go to the end of the row.
        PendingFileDeletion.objects.filter(name__in=failed).update(asked_at=timezone.now())
        for first in range(0, len(gone), BATCH):
            PendingFileDeletion.objects.filter(name__in=gone[first : first + BATCH]).delete()
    return len(gone)


def again() -> int:
    """Delete what could not be deleted before. Returns how many files."""
    return delete(list(left().values_list("name", flat=True)[:BATCH]))


def names() -> Iterable[str]:
    """What is to go."""
    return PendingFileDeletion.objects.values_list("name", flat=True)


def left() -> models.QuerySet[PendingFileDeletion]:
    """What could not be deleted by whoever asked for it, the oldest first."""
    return PendingFileDeletion.objects.filter(asked_at__lt=timezone.now() - PATIENCE).order_by("asked_at", "pk")


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Have a worker try again where something is left; called by every running cluster every few seconds."""
    if left().exists():
        queue_once("cases.images.deletion.again", EVERY)
