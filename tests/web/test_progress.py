"""What an open page learns while images are analysed."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

from django.test import Client
from django.urls import reverse

from cases.models import Case, Slide, User
from inference.models import Analysis
from tests.factories import add_slide

from .conftest import Finish

#: Session, user, two of permissions, case, slides, analyses, place in the queue, worker.
QUERIES = 9


def tag_of(page: str) -> str:
    found = re.search(r'data-tag="([^"]*)"', page)
    assert found
    return unescape(found[1])


def test_it_says_how_far_each_image_is(client: Client, case: Case, slide: Slide) -> None:
    Analysis.objects.update(state="running", patches_done=3, patches_total=12)
    data = client.get(reverse("cases:progress", args=[case.pk])).json()
    assert (data["open"], data["done"], data["total"], data["percent"]) == (1, 0, 1, 25)
    assert data["title"] == f"(0/1) {case.title}"
    assert data["status"] == "0 of 1 images analysed."
    assert data["slides"][0] == {
        "id": str(slide.pk), "state": "running", "patches_done": 3, "patches_total": 12,
        "percent": 25, "verdict": "", "error": "",
    }  # fmt: skip


def test_a_page_that_is_up_to_date_is_told_so_in_a_few_queries(
    client: Client, case: Case, finish: Finish, django_assert_max_num_queries: Callable
) -> None:
    for number in range(5):
        finish(0.1 * number, f"{number}.png")
    add_slide(case, "waiting.png")
    tag = tag_of(client.get(case.get_absolute_url()).content.decode())
    with django_assert_max_num_queries(QUERIES):
        answer = client.get(reverse("cases:progress", args=[case.pk]), headers={"If-None-Match": tag})
    assert answer.status_code == 304
    assert answer.content == b""
    # A proxy that compresses turns the tag into a weak one.
    answer = client.get(reverse("cases:progress", args=[case.pk]), headers={"If-None-Match": f"W/{tag}"})
    assert answer.status_code == 304


def test_only_the_parts_that_changed_are_sent(client: Client, case: Case, finish: Finish) -> None:
    first, second = add_slide(case, "a.png"), add_slide(case, "b.png")
    tag = tag_of(client.get(case.get_absolute_url()).content.decode())
    Analysis.objects.filter(slide=first).update(state="running", patches_done=1, patches_total=4)
    answer = client.get(reverse("cases:progress", args=[case.pk]), headers={"If-None-Match": tag})
    assert set(answer.json()["parts"]) == {"progress", f"slides/{first.pk}"}
    assert "1 / 4" in answer.json()["parts"][f"slides/{first.pk}"]
    third = finish(0.9, "c.png")  # the queue is in order: this ends the analysis of b.png
    answer = client.get(reverse("cases:progress", args=[case.pk]), headers={"If-None-Match": answer["ETag"]})
    parts = answer.json()["parts"]
    assert set(parts) == {"progress", "summary", "actions", "slides"}
    assert "Case result" in parts["summary"]
    assert f'data-live="slides/{third.pk}"' in parts["slides"]
    assert str(second.pk) in parts["slides"]


def test_a_page_without_a_tag_gets_every_part(client: Client, case: Case, done: Slide) -> None:
    answer = client.get(reverse("cases:progress", args=[case.pk]))
    assert set(answer.json()["parts"]) == {"progress", "summary", "actions", "slides"}
    assert answer.json()["open"] == 0
    assert answer.json()["title"] == case.title


def test_the_page_of_an_image_gets_its_result(client: Client, case: Case, slide: Slide) -> None:
    address = reverse("cases:progress", args=[case.pk])
    page = client.get(slide.get_absolute_url()).content.decode()
    answer = client.get(address, {"slide": slide.pk}, headers={"If-None-Match": tag_of(page)})
    assert answer.status_code == 304
    Analysis.objects.update(state="running", patches_done=5, patches_total=12)
    answer = client.get(address, {"slide": slide.pk}, headers={"If-None-Match": tag_of(page)})
    assert answer.json()["title"] == f"(5/12) {slide.original_name}"
    assert set(answer.json()["parts"]) == {"result"}
    assert "5 of 12 patches" in answer.json()["parts"]["result"]
    Analysis.objects.update(state="failed", error="The file is damaged.")
    answer = client.get(address, {"slide": slide.pk}, headers={"If-None-Match": answer["ETag"]})
    assert set(answer.json()["parts"]) == {"result", "facts", "actions", "maps", "patches"}
    assert "The file is damaged." in answer.json()["parts"]["result"]
    assert answer.json()["open"] == 0


def test_another_cases_image_is_not_found(
    client: Client, case: Case, slide: Slide, charlie: User, client_of: Callable[[User], Client]
) -> None:
    other = Case.objects.create(owner=case.owner, title="Other")
    for wrong in (slide.pk, "nonsense"):
        assert client.get(reverse("cases:progress", args=[other.pk]), {"slide": wrong}).status_code == 404
    assert client_of(charlie).get(reverse("cases:progress", args=[case.pk])).status_code == 404
