"""Too much at once is refused with a time to come back, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cases import services
from cases.accounts import tokens
from cases.limits.quotas import CapacityExceeded
from cases.models import Case, Slide, User
from inference.models import Analysis, ModelVersion, State
from tests.factories import add_slide, upload

As = Callable[[User], Client]


def test_a_person_may_not_fill_the_queue(case: Case, media: Path, model: ModelVersion, settings: Any) -> None:
    settings.MAX_PENDING_PER_USER = 2
    services.add_slides(case, [upload(), upload("b.png"), upload("c.png")])
    assert Slide.objects.count() == 3, "the first upload is taken whole"
    with pytest.raises(CapacityExceeded) as busy:
        services.add_slides(case, [upload()])
    assert busy.value.retry_after >= 10
    assert Slide.objects.count() == 3
    services.request_again(case, list(case.slides.all()), case.owner)  # all wait already
    done = case.slides.first()
    assert done is not None
    Analysis.objects.filter(slide=done).update(state=State.DONE)
    with pytest.raises(CapacityExceeded):
        services.request_again(case, [done], case.owner)


def test_a_large_case_is_analysed_again_in_parts(
    case: Case, media: Path, model: ModelVersion, settings: Any, as_user: As
) -> None:
    services.add_slides(case, [upload(f"{number}.png") for number in range(5)])
    analyses = Analysis.objects.filter(slide__case=case)
    result = {"state": State.DONE, "verdict": "benign", "probability": 0.1}
    analyses.update(**result)
    settings.MAX_PENDING_PER_USER = 2
    client = as_user(case.owner)
    taken = set[Any]()
    for so_far in (2, 4, 5):
        page = client.post(reverse("cases:rerun", args=[case.pk]), follow=True)
        assert "2 of 5 images were queued" in page.content.decode()
        fresh = Analysis.objects.filter(slide__case=case, is_current=True, state=State.QUEUED)
        taken |= set(fresh.values_list("slide", flat=True))
        assert len(taken) == so_far, "the oldest first"
        fresh.update(**result)
    settings.MAX_PENDING_PER_USER = 3
    services.request_again(case, list(case.slides.all()[:1]), case.owner)
    assert len(services.request_again(case, list(case.slides.all()), case.owner)) == 3, "as many as there is room for"
    page = client.post(reverse("cases:rerun", args=[case.pk]))
    assert page.status_code == 429


def test_others_are_let_in(case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any) -> None:
    settings.MAX_PENDING_PER_USER = 1
    add_slide(case)
    assert add_slide(Case.objects.create(owner=charlie, title="Another's"))


def test_the_queue_has_an_end(case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any) -> None:
    settings.MAX_PENDING = 1
    add_slide(case)
    with pytest.raises(CapacityExceeded):
        add_slide(Case.objects.create(owner=charlie, title="Another's"))


def test_pages_answer_429(alice: User, slide: Slide, as_user: As, settings: Any) -> None:
    settings.MAX_PENDING = 1
    client = as_user(alice)
    cases = Case.objects.count()
    for name, data in (
        ("cases:new", {"title": "New", "overlap": "0.0", "magnification": "unknown"}),
        ("cases:try", {}),
    ):
        files = {"images": [upload()]} if name == "cases:new" else {}
        answer = client.post(reverse(name), {**data, **files})
        assert answer.status_code == 429, (name, answer.status_code)
        assert int(answer["Retry-After"]) >= 10
        assert "Nothing was stored" in answer.content.decode()
    assert Case.objects.count() == cases and Slide.objects.count() == 1
    answer = client.post(
        reverse("cases:add_slides", args=[slide.case_id]),
        {"images": [upload()]},
        headers={"Accept": "application/json"},
    )
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (429, "busy")


def test_the_api_answers_429(alice: User, slide: Slide, settings: Any) -> None:
    settings.MAX_PENDING = 1
    _, plain = tokens.create(alice, "laboratory")
    answer = Client().post(
        reverse("api:case-slides", args=[slide.case_id]),
        {"files": [upload()]},
        headers={"Authorization": f"Token {plain}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (429, "busy")
    assert int(answer["Retry-After"]) >= 10


def test_a_case_has_an_end(case: Case, media: Path, model: ModelVersion, settings: Any, as_user: As) -> None:
    """Its page and its report cost more with every image."""
    settings.CASE_MAX_IMAGES = 2
    slides, rejected = services.add_slides(case, [upload(f"{number}.png") for number in range(3)])
    assert len(slides) == 2 and [problem.code for problem in rejected] == ["case_full"]
    answer = as_user(case.owner).post(
        reverse("cases:add_slides", args=[case.pk]),
        {"images": [upload("more.png")]},
        headers={"accept": "application/json"},
    )
    assert "maximum of 2 images per case" in answer.json()["errors"][0]["reason"]
