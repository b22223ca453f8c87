"""The decoder processes: what is answered when they are busy or fail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cases import services
from cases.images import intake, sandbox, tiles
from cases.limits.concurrency import MEMORY
from cases.models import Case, Slide, User
from inference.models import ModelVersion
from tests.factories import upload

As = Callable[[User], Client]


def test_a_busy_decoder_is_said_and_not_waited_for_without_end(
    as_user: As, alice: User, charlie: User, finished: Slide, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DECODER_CONCURRENCY = 1
    monkeypatch.setattr(intake, "PATIENCE", 0.05)
    monkeypatch.setattr(tiles, "PATIENCE", 0.05)
    with MEMORY.hold(charlie.pk):
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


def test_a_folder_keeps_what_was_read_before_the_decoders_were_busy(
    case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PATIENCE", 0.05)
    run = sandbox.run
    with ExitStack() as held:

        def then_others(*arguments: Any) -> dict[str, Any]:
            held.enter_context(MEMORY.hold(charlie.pk))
            settings.DECODER_CONCURRENCY = 1
            return run(*arguments)

        monkeypatch.setattr(sandbox, "run", then_others)
        slides, rejected = services.add_slides(case, [upload("a.png"), upload("b.png")])
    assert [slide.original_name for slide in slides] == ["a.png"]
    assert [(problem.filename, problem.code) for problem in rejected] == [("b.png", "busy")]


def test_an_error_in_the_decoder_is_logged_and_not_blamed_on_the_file(
    as_user: As, case: Case, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    run = sandbox.run

    def with_an_argument_too_many(work: str, files: Any, page: int | None) -> dict[str, Any]:
        return run(work, files, page, "too many")

    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "run", with_an_argument_too_many)
        _, (problem,) = services.add_slides(case, [upload("mine.png")])
        answer = as_user(case.owner).post(reverse("api:case-slides", args=[case.pk]), {"files": [upload("mine.png")]})
    assert (problem.filename, problem.code) == ("mine.png", "error")
    assert problem.reason == "could not be read because of an error on the server"
    assert (answer.status_code, answer.json()["code"]) == (500, "error") and "mine.png" in answer.json()["detail"]
    assert "Traceback" in caplog.text and "TypeError" in caplog.text
    assert services.add_slides(case, [upload()])[0], "the next upload is read at once"
