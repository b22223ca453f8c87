"""Calls of programs that were cut off while their images were stored: what is there of them goes."""

from __future__ import annotations

import logging
from typing import Any

from django.utils import timezone

from cases import services
from cases.limits.housekeeping import queue_once
from cases.models import User
from cases.models.submissions import Submission

log = logging.getLogger(__name__)


def abandon(submission: Submission, actor: User | None = None) -> None:
    """Take back what was stored of a call that nobody was answered."""
    if submission.case:
        services.remove_case(submission.case, actor)
    Submission.objects.filter(pk=submission.pk).delete()


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Have a worker sweep where something is to be swept; called by every running cluster every few seconds."""
    if Submission.objects.filter(receiving_until__lt=timezone.now()).exists():
        queue_once("cases.services.abandoned_uploads.delete_abandoned", 20)


def delete_abandoned() -> int:
    """Abandon calls whose process died. Returns how many."""
    swept = 0
    for submission in Submission.objects.select_related("case").filter(receiving_until__lt=timezone.now()):
        # Of several clusters one does it.
        if submission.give_up():
            log.warning("A call was cut off while its images were stored (case %s).", submission.case_id)
            abandon(submission)
            swept += 1
    return swept
