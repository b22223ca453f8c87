"""Who may be asked to read a case."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client
from django.urls import reverse

from cases import services
from cases.models import Case, User

As = Callable[[User], Client]


def test_a_reviewer_that_is_none_changes_nothing(case: Case, as_user: As, reviewer: User) -> None:
    services.assign(case, reviewer, reviewer)
    form = {"action": "assign", "_selected_action": [str(case.pk)], "reviewer": "x"}
    assert as_user(reviewer).post(reverse("admin:cases_case_changelist"), form).status_code == 302
    case.refresh_from_db()
    assert case.assigned_to == reviewer
