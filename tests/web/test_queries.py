"""No page asks the database more often because a case holds more, nor ever more than twenty times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from cases import services
from cases.models import AuditEvent, Case, Reading, User
from inference.models import Analysis
from tests.factories import add_slide

from .conftest import Finish

LIMIT = 20
PAGES = [
    "cases:help", "cases:history", "cases:new", "cases:preferences", "cases:statistics", "cases:status",
    "cases:tokens", "account_email", "account_change_password", "usersessions_list", "mfa_index",
]  # fmt: skip
OF_A_CASE = ["cases:case", "cases:edit", "cases:delete", "cases:trail", "cases:progress"]
OF_A_SLIDE = ["cases:slide", "cases:slide_delete"]


def fill(case: Case, finish: Finish, people: list[User], first: int, count: int) -> None:
    """Slides finished, failed and waiting, readings of several people, a timeline."""
    for number in range(first, first + count):
        finish(0.1 * (number % 10), f"{number}.png", outside="No H&E." if number % 4 == 3 else "")
    failed = add_slide(case, f"failed-{first}.png")
    Analysis.objects.filter(slide=failed).update(state="failed", error="The file is damaged.")
    add_slide(case, f"waiting-{first}.png")
    for person in people:
        services.sign_review(case, person, Reading.BENIGN, "", "As I see it.")
        services.record(case, AuditEvent.Kind.VIEWED, person)


def count(client: Client, address: str) -> int:
    client.get(address)  # a session's first page also notes the device
    with CaptureQueriesContext(connection) as caught:
        assert client.get(address).status_code == 200, address
    return len(caught)


@pytest.mark.parametrize("who", ["alice", "rita"])
def test_every_page_stays_below_the_limit(
    who: str, case: Case, finish: Finish, alice: User, reviewer: User, client_of: Callable[[User], Client]
) -> None:
    client = client_of(alice if who == "alice" else reviewer)
    Case.objects.update(is_blinded=True, assigned_to=reviewer)
    fill(case, finish, [alice, reviewer], 0, 3)
    slide = case.slides.first()
    assert slide is not None
    addresses = [reverse(name) for name in PAGES]
    addresses.append(reverse("cases:model", args=[Analysis.objects.values_list("model_version", flat=True)[0]]))
    names = OF_A_CASE if who == "alice" else ["cases:case", "cases:trail", "cases:progress"]
    addresses += [reverse(name, args=[case.pk]) for name in names]
    addresses += [reverse(name, args=[slide.pk]) for name in (OF_A_SLIDE if who == "alice" else OF_A_SLIDE[:1])]
    before = {address: count(client, address) for address in addresses}
    assert {address: n for address, n in before.items() if n > LIMIT} == {}
    fill(case, finish, [alice, reviewer], 3, 6)
    after = {address: count(client, address) for address in addresses}
    assert {a: (before[a], n) for a, n in after.items() if n > before[a]} == {}
