"""Figures for the administration's index page."""

from __future__ import annotations

from typing import Any

from django import template

from cases.models import Case
from inference.jobs import queue
from inference.models import Analysis, State

register = template.Library()


@register.simple_tag
def glance() -> dict[str, Any]:
    """Queue, failures, unread cases, worker."""
    current = Analysis.objects.filter(is_current=True)
    return {
        "waiting": current.filter(state=State.QUEUED).count(),
        "running": current.filter(state=State.RUNNING).count(),
        "failed": current.filter(state=State.FAILED).count(),
        "unread": Case.objects.filter(reviews=None).count(),
        "worker": queue.worker_alive(),
    }
