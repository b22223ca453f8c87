"""Every way of viewing another user's case is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.models import AuditEvent, Case, Report, Slide, User
from inference.models import Analysis, ModelVersion, State
from tests.factories import CaseFactory

As = Callable[[User], Client]


def viewed(user: User) -> list[str]:
    events = AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED, actor__user=user)
    return list(events.order_by("pk").values_list("detail", flat=True))


@pytest.mark.parametrize("name", ["cases:map", "cases:activation", "cases:patch"])
def test_parts_of_a_slide_requested_without_its_page_are_recorded(
    name: str, as_user: As, reviewer: User, finished: Slide
) -> None:
    client = as_user(reviewer)
    path = reverse(name, args=[finished.pk, 0] if name == "cases:patch" else [finished.pk])
    for _ in range(3):
        assert client.get(path).status_code == 200
    assert len(viewed(reviewer)) == 1, "noted, but not once more for each part"


def test_parts_of_a_recorded_page_are_not_recorded_again(as_user: As, reviewer: User, finished: Slide) -> None:
    client = as_user(reviewer)
    client.get(reverse("cases:slide", args=[finished.pk]))
    client.get(reverse("cases:patch", args=[finished.pk, 0]))
    client.get(reverse("cases:map", args=[finished.pk]))
    assert viewed(reviewer) == ["Slide"]


@pytest.mark.parametrize("model", ["case", "slide"])
def test_views_in_the_administration_are_recorded(model: str, as_user: As, reviewer: User, slide: Slide) -> None:
    pk = slide.case_id if model == "case" else slide.pk
    assert as_user(reviewer).get(reverse(f"admin:cases_{model}_change", args=[pk])).status_code == 200
    event = AuditEvent.objects.get(kind=AuditEvent.Kind.VIEWED)
    assert event.case_id == slide.case_id


@pytest.mark.parametrize("name", ["api:cases", "api:analyses"])
def test_cases_of_others_in_an_api_list_are_recorded(name: str, as_user: As, reviewer: User, slide: Slide) -> None:
    CaseFactory(owner=reviewer)
    assert as_user(reviewer).get(reverse(name)).status_code == 200
    assert list(AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED).values_list("case", flat=True)) == [
        slide.case_id
    ]
    as_user(slide.case.owner).get(reverse(name))
    assert viewed(slide.case.owner) == [], "a list of one's own is no look at a case"


def test_a_log_line_cannot_be_forged(client: Client, db: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.get("/nothing%0A2026-01-01%20ERROR%20root%20forged")
        client.get("/api/v1/nothing%0AERROR%20root%20forged")
    assert caplog.records
    for record in caplog.records:
        if record.name != "django.db.backends":
            assert "\n" not in record.getMessage(), record.name


Kind = AuditEvent.Kind


def finish() -> None:
    Analysis.objects.update(state=State.DONE, verdict="benign", probability=0.1, finished_at=timezone.now())


def test_an_invalid_form_shown_again_in_the_administration_is_recorded(case: Case, reviewer: User, as_user: As) -> None:
    answer = as_user(reviewer).post(reverse("admin:cases_case_change", args=[case.pk]), {"assigned_to": "999999"})
    assert answer.status_code == 200 and case.title in answer.content.decode()
    assert AuditEvent.objects.filter(case=case, kind=Kind.VIEWED, actor__user=reviewer).count() == 1


def test_every_printed_report_is_recorded(case: Case, slide: Slide, reviewer: User, as_user: As) -> None:
    finish()
    for _ in range(3):
        assert as_user(reviewer).get(reverse("cases:report", args=[case.pk])).status_code == 200
    assert AuditEvent.objects.filter(case=case, detail="Report", actor__user=reviewer).count() == 3
    assert Report.objects.count() == 1


def test_a_list_of_readings_is_recorded(case: Case, reviewer: User, as_user: As) -> None:
    services.sign_review(case, case.owner, "benign")
    assert as_user(reviewer).get(reverse("admin:cases_review_changelist")).status_code == 200
    assert AuditEvent.objects.filter(case=case, detail="List, in the administration", actor__user=reviewer).exists()


def test_changes_in_the_administration_are_in_the_trail_of_the_case(
    case: Case, model: ModelVersion, root: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = as_user(root)
    chosen = {"action": "mark_for_teaching", "_selected_action": [str(case.pk)]}
    client.post(reverse("admin:cases_case_changelist"), chosen)
    assert AuditEvent.objects.filter(case=case, kind=Kind.ADMIN, actor__user=root).count() == 1
    monkeypatch.setattr("inference.registry.verify", lambda *_: None)
    client.post(
        reverse("admin:inference_modelversion_changelist"), {"action": "activate", "_selected_action": [str(model.pk)]}
    )
    assert AuditEvent.objects.filter(kind=Kind.ADMIN, detail__contains=str(model.pk)).count() == 1
