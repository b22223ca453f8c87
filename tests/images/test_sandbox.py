"""The decoder processes: none is taken by one person alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from cases import services
from cases.images import intake, sandbox
from cases.limits.quotas import CapacityExceeded
from cases.models import Case, Slide, User
from inference.models import ModelVersion
from tests.factories import CaseFactory, upload
from tests.images.test_uploads import bomb

As = Callable[[User], Client]


def test_a_busy_decoder_is_said_and_not_waited_for_without_end(
    as_user: As, alice: User, finished: Slide, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DECODER_CONCURRENCY = 1
    monkeypatch.setattr(sandbox, "PATIENCE", 0.05)
    monkeypatch.setattr(sandbox, "VIEWER_PATIENCE", 0.05)
    with sandbox._decoder(None, 1):
        answer = as_user(alice).get(reverse("cases:patch", args=[finished.pk, 0]))
        assert answer.status_code == 429 and answer["Retry-After"]
        for address, files in (("cases:add_slides", "images"), ("api:case-slides", "files")):
            sent = {files: [upload()]}
            answer = as_user(alice).post(reverse(address, args=[finished.case_id]), sent)
            assert answer.status_code == 429 and answer["Retry-After"], address
        answer = as_user(alice).post(
            reverse("cases:new"), {"title": "New", "magnification": "unknown", "images": [upload()]}
        )
        assert answer.status_code == 429
        assert list(Case.objects.values_list("pk", flat=True)) == [finished.case_id], "no empty case is left"


def test_who_sends_images_that_hang_the_decoder_leaves_one_to_others(
    case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.clear()
    monkeypatch.setattr(intake, "HEAVY_PATIENCE", 0.05)
    settings.DECODER_SECONDS = 1
    _, (problem,) = services.add_slides(case, [upload("slow.png", bomb(12_200))])
    assert "too long" in problem.reason
    settings.DECODER_SECONDS = 60
    with intake._heavy:
        with pytest.raises(CapacityExceeded):  # no second decoder at once
            services.add_slides(case, [upload()])
        slides, _ = services.add_slides(CaseFactory(owner=charlie), [upload()])
        assert slides
    slides, _ = services.add_slides(case, [upload()])
    assert slides
    cache.clear()


def test_an_error_in_the_decoder_is_logged_and_not_blamed_on_the_file(
    as_user: As, case: Case, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    run = sandbox.run

    def with_an_argument_too_many(work: str, files: Any, page: int | None, person: int | None) -> dict[str, Any]:
        return run(work, files, page, "too many", person=person)

    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "run", with_an_argument_too_many)
        _, (problem,) = services.add_slides(case, [upload("mine.png")])
        answer = as_user(case.owner).post(reverse("api:case-slides", args=[case.pk]), {"files": [upload("mine.png")]})
    assert (problem.filename, problem.code) == ("mine.png", "error")
    assert problem.reason == "could not be read because of an error on the server"
    assert (answer.status_code, answer.json()["code"]) == (500, "error") and "mine.png" in answer.json()["detail"]
    assert "Traceback" in caplog.text and "TypeError" in caplog.text
    assert services.add_slides(case, [upload()])[0], "the next upload is read at once"


def test_nobody_takes_all_decoders(alice: User, charlie: User, settings: Any) -> None:
    settings.DECODER_CONCURRENCY = 2
    with sandbox._decoder(alice.pk, 0.05):
        with pytest.raises(sandbox.DecoderBusy), sandbox._decoder(alice.pk, 0.05):
            pass
        with sandbox._decoder(charlie.pk, 0.05), pytest.raises(sandbox.DecoderBusy), sandbox._decoder(None, 0.05):
            pass
    with sandbox._decoder(alice.pk, 0.05):
        pass
