"""Cases past their retention are deleted, those in use are not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cases import services
from cases.models import AuditEvent, Case, Slide, User
from cases.services import retention
from inference.models import Analysis, State
from tests.factories import add_slide

Kind = AuditEvent.Kind


def finish() -> None:
    Analysis.objects.update(state=State.DONE, verdict="benign", probability=0.1, finished_at=timezone.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("used", ["added to", "read", "analysed again", "assigned"])
def test_a_case_that_is_used_is_not_past_its_retention(
    used: str, case: Case, slide: Slide, alice: User, reviewer: User, settings: Any
) -> None:
    finish()
    services.analyse(case, [])
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now() - timedelta(days=400))
    match used:
        case "added to":
            add_slide(case)
        case "read":
            services.sign_review(case, reviewer, "benign")
        case "analysed again":
            services.request_again(case, [slide], alice)
        case "assigned":
            services.assign(case, reviewer, alice)
    finish()
    Case.objects.filter(pk=case.pk).update(open_count=0)
    settings.RETENTION_DAYS = 365
    retention.purge()
    assert Case.objects.filter(pk=case.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_what_time_deleted_nobody_deleted(case: Case, settings: Any) -> None:
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now() - timedelta(days=400))
    settings.RETENTION_DAYS = 365
    retention.purge()
    assert AuditEvent.objects.get(case=case.pk, kind=Kind.DELETED).actor is None
