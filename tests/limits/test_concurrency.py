"""Long work of one person, or of many, leaves threads for pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cases import services
from cases.images import tiles
from cases.limits.concurrency import ConcurrencySlot, Kind
from cases.limits.quotas import CapacityExceeded
from cases.models import Case, Slide, User
from cases.reporting import pdf
from inference.models import ModelVersion
from tests.factories import CaseFactory, UserFactory, upload
from tests.patching import patch_service

As = Callable[[User], Client]


@pytest.mark.parametrize("threads", [4, 8, 16])
@pytest.mark.parametrize("kind", Kind)
def test_nobody_takes_all_there_is_of_a_kind(
    kind: Kind, threads: int, alice: User, charlie: User, settings: Any
) -> None:
    settings.WEB_THREADS = threads
    with ExitStack() as held:
        own = sum(held.enter_context(ConcurrencySlot(alice, kind)).taken for _ in range(threads))
        assert own >= 1
        with ConcurrencySlot(charlie, kind) as turn:
            assert turn.taken or kind.most == 1


def test_reports_take_a_quarter_of_the_threads_at_most(
    as_user: As, alice: User, charlie: User, case: Case, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEB_THREADS = 4
    monkeypatch.setattr(pdf, "PATIENCE", 0.05)
    client = as_user(alice)
    with ConcurrencySlot(charlie, Kind.REPORT):
        for name in ("cases:report", "api:case-report"):
            answer = client.get(reverse(name, args=[case.pk]))
            assert answer.status_code == 429 and answer["Retry-After"], name
    assert client.get(reverse("cases:report", args=[case.pk])).status_code == 200


def test_one_person_may_not_hold_all_threads(
    as_user: As, alice: User, charlie: User, case: Case, model: ModelVersion, media: Path, settings: Any
) -> None:
    settings.WEB_THREADS = 16
    with ExitStack() as held:
        kinds = [Kind.WAIT] * 7 + [Kind.REPORT] * 3 + [Kind.UPLOAD] * 5  # of each what fits in the 12
        taken = [held.enter_context(ConcurrencySlot(alice, kind)).taken for kind in kinds]
        assert taken == [True] * 6 + [False] + [True] * 2 + [False] + [True] * 4 + [False]
        with pytest.raises(CapacityExceeded):
            services.add_slides(case, [upload()])
        client = as_user(alice)
        for answer in (client.get(reverse("cases:data_export")), client.post(reverse("cases:try"))):
            assert answer.status_code == 429 and answer["Retry-After"]
        assert not Case.objects.filter(is_synthetic=True).exists()
        assert services.add_slides(CaseFactory(owner=charlie), [upload()])[0]
    assert services.add_slides(case, [upload()])[0]


def test_a_download_of_ones_data_holds_its_turn_until_it_is_read(
    as_user: As, alice: User, slide: Slide, settings: Any
) -> None:
    settings.WEB_THREADS = 16
    client = as_user(alice)
    first, second = (client.get(reverse("cases:data_export")) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert client.get(reverse("cases:data_export")).status_code == 429
    assert b"".join(first) and b"".join(second)
    assert b"".join(client.get(reverse("cases:data_export")))


def test_long_work_of_many_leaves_threads_for_pages(alice: User, charlie: User, settings: Any) -> None:
    settings.WEB_THREADS = 16
    kinds = [Kind.WAIT, Kind.UPLOAD, Kind.PICTURE]
    with ExitStack() as held:
        taken = [
            held.enter_context(ConcurrencySlot(person, kind)).taken
            for kind in kinds
            for person in (alice, charlie)
            for _ in range(kind.own)
        ]
        assert sum(taken) == 14
        with ConcurrencySlot(UserFactory(), Kind.REPORT) as none:
            assert not none.taken
    with ConcurrencySlot(UserFactory(), Kind.REPORT) as turn:
        assert turn.taken


def test_pictures_that_are_made_leave_threads_for_pages(
    as_user: As, alice: User, charlie: User, finished: Slide, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEB_THREADS = 4
    monkeypatch.setattr(tiles, "PATIENCE", 0.05)
    client = as_user(alice)
    paths = [reverse("cases:tiles", args=[finished.pk]), reverse("cases:patch", args=[finished.pk, 0])]
    with ConcurrencySlot(charlie, Kind.PICTURE), ConcurrencySlot(UserFactory(), Kind.PICTURE):
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 429 and answer["Retry-After"], path
    for path in paths:
        assert client.get(path).status_code == 200
    with ConcurrencySlot(charlie, Kind.PICTURE), ConcurrencySlot(UserFactory(), Kind.PICTURE):
        assert client.get(paths[0]).status_code == 200, "what is made already needs no turn"


def test_uploads_of_many_leave_threads_for_pages(
    case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_service(monkeypatch, "PATIENCE", 0.05)
    settings.WEB_THREADS = 4
    with ExitStack() as held:
        assert [held.enter_context(ConcurrencySlot(UserFactory(), Kind.UPLOAD)).taken for _ in range(3)] == [
            True,
            True,
            False,
        ]
        with pytest.raises(CapacityExceeded):
            services.add_slides(case, [upload()])
    assert services.add_slides(case, [upload()])[0]
