"""API calls whose process died while it stored their images: what they stored is deleted."""

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
    """Delete what a call stored."""
    if submission.case:
        services.remove_case(submission.case, actor)
    Submission.objects.filter(pk=submission.pk).delete()


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Queue the clean-up if a call was abandoned. Every running cluster sends this signal every few seconds."""
    if Submission.objects.filter(receiving_until__lt=timezone.now()).exists():
        queue_once("cases.services.abandoned_uploads.delete_abandoned", 20)


def delete_abandoned() -> int:
    """Delete what abandoned calls stored. Returns the number of calls."""
    deleted = 0
    for submission in Submission.objects.select_related("case").filter(receiving_until__lt=timezone.now()):
        # Only one of several clusters succeeds here.
        if submission.give_up():
            log.warning("An API call was interrupted while its images were stored (case %s).", submission.case_id)
            abandon(submission)
            deleted += 1
    return deleted
