"""Costly requests of one user, or of many, leave threads for pages and memory for others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cases import services
from cases.limits.concurrency import MEMORY, THREADS, ConcurrencyLimit
from cases.limits.quotas import CapacityExceeded
from cases.models import Case, Slide, User
from cases.reporting import pdf
from inference.models import ModelVersion
from tests.factories import CaseFactory, upload

As = Callable[[User], Client]

ALICE, CHARLIE, OTHER = 1, 2, 3


def taken(held: ExitStack, limit: ConcurrencyLimit, user: int, tries: int = 32, optional: bool = False) -> int:
    """How many slots the user gets of so many tries; they are given back with ``held``."""
    for got in range(tries):
        try:
            held.enter_context(limit.hold(user, optional=optional))
        except CapacityExceeded:
            return got
    return tries


@pytest.mark.parametrize(("threads", "all_slots", "own"), [(1, 1, 1), (2, 1, 1), (4, 3, 2), (8, 6, 4), (16, 12, 8)])
def test_costly_requests_leave_a_quarter_of_the_threads(threads: int, all_slots: int, own: int, settings: Any) -> None:
    settings.WEB_THREADS = threads
    with ExitStack() as held:
        assert taken(held, THREADS, ALICE) == own
        assert own + taken(held, THREADS, CHARLIE) == all_slots
        assert taken(held, THREADS, OTHER) == 0
    with ExitStack() as held:
        assert taken(held, THREADS, ALICE) == own, "they were given back"


@pytest.mark.parametrize(("threads", "waits", "own"), [(1, 0, 0), (2, 0, 0), (4, 2, 1), (8, 4, 2), (16, 8, 5)])
def test_half_the_threads_wait_for_results(threads: int, waits: int, own: int, settings: Any) -> None:
    """With few threads nobody waits: programs ask again."""
    settings.WEB_THREADS = threads
    with ExitStack() as held:
        assert taken(held, THREADS, ALICE, optional=True) == own
        assert own + taken(held, THREADS, CHARLIE, optional=True) == waits
        assert taken(held, THREADS, OTHER) > 0, "uploads still find a slot"


@pytest.mark.parametrize(("decoders", "own"), [(1, 1), (2, 1), (3, 2), (6, 4)])
def test_nobody_takes_all_decoders(decoders: int, own: int, settings: Any) -> None:
    settings.DECODER_CONCURRENCY = decoders
    with ExitStack() as held:
        assert taken(held, MEMORY, ALICE) == own
        assert own + taken(held, MEMORY, CHARLIE) == decoders
        assert taken(held, MEMORY, OTHER) == 0


def test_pages_and_programs_are_told_when_to_come_back(
    as_user: As, alice: User, charlie: User, finished: Slide, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEB_THREADS = 2
    pages = [
        reverse("cases:report", args=[finished.case_id]),
        reverse("cases:tiles", args=[finished.pk]),
        reverse("cases:patch", args=[finished.pk, 0]),
        reverse("cases:data_export"),
    ]
    client = as_user(alice)
    with THREADS.hold(charlie.pk):
        for page in pages:
            answer = client.get(page)
            assert answer.status_code == 429 and int(answer["Retry-After"]) > 0, page
            assert "Try again in a few seconds" in answer.content.decode(), page
        answer = client.get(reverse("api:case-report", args=[finished.case_id]))
        assert (answer.status_code, answer.json()["code"]) == (429, "busy") and int(answer["Retry-After"]) > 0
        assert client.post(reverse("cases:try")).status_code == 429
        assert not Case.objects.filter(is_synthetic=True).exists()
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200 and b"".join(answer), page
    with THREADS.hold(charlie.pk):
        assert client.get(pages[1]).status_code == 200, "tiles that exist need no slot"


def test_reports_share_the_memory_with_the_decoders(
    as_user: As, alice: User, charlie: User, case: Case, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DECODER_CONCURRENCY = 1
    monkeypatch.setattr(pdf, "PATIENCE", 0.05)
    with MEMORY.hold(charlie.pk):
        assert as_user(alice).get(reverse("cases:report", args=[case.pk])).status_code == 429
    assert as_user(alice).get(reverse("cases:report", args=[case.pk])).status_code == 200


def test_one_user_who_is_busy_stops_no_other(
    alice: User, charlie: User, case: Case, model: ModelVersion, media: Path, settings: Any
) -> None:
    settings.WEB_THREADS = 4
    with ExitStack() as held:
        taken(held, THREADS, alice.pk)
        taken(held, MEMORY, alice.pk)
        with pytest.raises(CapacityExceeded):
            services.add_slides(case, [upload()])
        assert services.add_slides(CaseFactory(owner=charlie), [upload()])[0]
    assert services.add_slides(case, [upload()])[0]


def test_a_download_of_ones_data_holds_its_slot_until_it_is_read(
    as_user: As, alice: User, slide: Slide, settings: Any
) -> None:
    settings.WEB_THREADS = 2
    client = as_user(alice)
    answer = client.get(reverse("cases:data_export"))
    assert client.get(reverse("cases:data_export")).status_code == 429
    assert b"".join(answer)
    assert b"".join(client.get(reverse("cases:data_export")))
