"""The timeline of a case."""

from __future__ import annotations

import uuid

from django.utils import timezone

from cases import audit
from cases.models import AuditEvent, Case, User


def record(
    case: Case, kind: AuditEvent.Kind, actor: User | None = None, detail: str = "", about: uuid.UUID | None = None
) -> AuditEvent:
    """Record an event in the case's timeline. The case counts as updated now, which restarts its retention period."""
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now())
    return audit.record(kind, case, actor, detail, about)
