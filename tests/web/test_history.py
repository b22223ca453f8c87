"""The history: what it finds, in which order, and what it does to many."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.models import Case, Tag, User
from tests.factories import CaseFactory

from .conftest import Finish

HISTORY = "/cases/"


def titles(client: Client, query: str = "") -> list[str]:
    return [case.title for case in client.get(HISTORY + query).context["page"]]


@pytest.fixture
def three(alice: User) -> list[Case]:
    now = timezone.now()
    values = [("Alpha", "malignant", 0.9), ("Beta", "benign", 0.1), ("Gamma", "indeterminate", 0.5)]
    return [
        CaseFactory(
            owner=alice, title=title, verdict=verdict, probability=p, slide_count=1, created_at=now - timedelta(days=n)
        )
        for n, (title, verdict, p) in enumerate(values)
    ]


def test_it_lists_ones_own_newest_first(client: Client, three: list[Case]) -> None:
    CaseFactory(title="Somebody else's")
    assert titles(client) == ["Alpha", "Beta", "Gamma"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?q=beta", ["Beta"]),
        ("?q=alp+nothing", []),
        ("?verdict=malignant", ["Alpha"]),
        ("?sort=-probability", ["Alpha", "Gamma", "Beta"]),
        ("?sort=title&verdict=benign", ["Beta"]),
        ("?state=done", ["Alpha", "Beta", "Gamma"]),
        ("?state=running", []),
        ("?verdict=nonsense&page=900&since=never", ["Alpha", "Beta", "Gamma"]),
    ],
)
def test_it_filters_and_sorts(client: Client, three: list[Case], query: str, expected: list[str]) -> None:
    assert titles(client, query) == expected


def test_it_filters_by_day_and_tag_and_reading(client: Client, three: list[Case], alice: User) -> None:
    three[1].tags.add(Tag.objects.create(owner=alice, name="teaching set"))
    services.sign_review(three[0], alice, "benign")
    today = timezone.localdate().isoformat()
    assert titles(client, f"?since={today}&until={today}") == ["Alpha"]
    assert titles(client, "?tag=teaching+set") == ["Beta"]
    assert titles(client, "?reading=none") == ["Beta", "Gamma"]
    assert titles(client, "?reading=disagrees") == ["Alpha"]


def test_a_reviewer_sees_all_and_can_ask_for_what_is_assigned(
    reviewer: User, three: list[Case], client_of: Callable
) -> None:
    services.assign(three[2], reviewer, three[2].owner)
    rita = client_of(reviewer)
    assert len(titles(rita)) == 3
    assert titles(rita, "?whose=assigned") == ["Gamma"]


def test_it_stays_fast_with_thousands(client: Client, alice: User, django_assert_max_num_queries: Callable) -> None:
    Case.objects.bulk_create([Case(owner=alice, title=f"Case {n}") for n in range(10_000)])
    with django_assert_max_num_queries(20):
        answer = client.get(HISTORY + "?page=200&q=case")
    assert len(answer.context["page"]) == 25


def test_an_empty_history_says_what_to_do(client: Client) -> None:
    assert "Try it with synthetic images" in client.get(HISTORY).content.decode()


def test_bulk_delete_asks_and_spares_others_cases(client: Client, three: list[Case]) -> None:
    foreign = CaseFactory(title="Foreign")
    data = {"action": "delete", "case": [three[0].pk, foreign.pk, "no-uuid"]}
    asked = client.post(reverse("cases:bulk"), data)
    assert "Delete 1 case?" in asked.content.decode()
    client.post(reverse("cases:bulk"), {**data, "confirmed": "1"})
    assert set(Case.objects.values_list("title", flat=True)) == {"Beta", "Gamma", "Foreign"}


def test_whoever_comes_back_to_the_question_lands_in_the_history(client: Client) -> None:
    assert client.get(reverse("cases:bulk")).headers["Location"] == HISTORY


def test_reviewers_find_what_they_have_to_read(
    client: Client, client_of: Callable, reviewer: User, three: list[Case]
) -> None:
    link = "/cases/?whose=assigned&amp;reading=none"
    assert link not in client.get(HISTORY).content.decode()
    rita = client_of(reviewer)
    assert link in rita.get(HISTORY).content.decode()
    services.assign(three[1], reviewer, reviewer)
    assert titles(rita, "?whose=assigned&reading=none") == [three[1].title]
    services.sign_review(three[1], reviewer, "benign")
    assert titles(rita, "?whose=assigned&reading=none") == []


def test_bulk_delete_says_what_stays(client_of: Callable, reviewer: User, three: list[Case]) -> None:
    answer = client_of(reviewer).post(reverse("cases:bulk"), {"action": "delete", "case": [c.pk for c in three]})
    assert "3 of the selected cases belong to other users and will not be deleted." in answer.content.decode()


def test_bulk_never_leads_to_another_site(client: Client, three: list[Case]) -> None:
    answer = client.post(reverse("cases:bulk"), {"action": "rerun", "next": "https://evil.example/"})
    assert answer.headers["Location"] == HISTORY


def test_export_as_csv_has_a_line_a_slide_and_no_formulas(client: Client, case: Case, finish: Finish) -> None:
    Case.objects.filter(pk=case.pk).update(title="=1+1")
    finish(0.25, "a.png")
    finish(0.75, "b.png")
    text = client.get(reverse("cases:export_history", args=["csv"])).content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["file"] for row in rows] == ["a.png", "b.png"]
    assert {row["case"] for row in rows} == {"'=1+1"}
    assert float(rows[1]["probability_malignant"]) == pytest.approx(0.75)
    assert rows[0]["model"] == "test 1"
    assert (rows[0]["tissue_patches"], rows[0]["empty_patches"]) == ("12", "0")
    assert (rows[0]["review_recommended"], rows[0]["review_reasons"]) == (
        "True", "1 of 2 images is malignant; the average of the case is not.",
    )  # fmt: skip


def test_export_as_json_follows_the_filter(client: Client, three: list[Case]) -> None:
    data = client.get(reverse("cases:export_history", args=["json"]) + "?verdict=benign").json()
    assert [case["title"] for case in data["cases"]] == ["Beta"]


def test_there_is_no_other_form_of_export(client: Client, case: Case) -> None:
    assert client.get(reverse("cases:export_history", args=["xml"])).status_code == 404


def test_first_steps_tick_themselves_until_hidden(client: Client, alice: User, finish: Callable) -> None:
    assert client.get(HISTORY).context["steps"] == dict.fromkeys(("image", "result", "reading", "token"), False)
    services.sign_review(finish(0.2).case, alice, "benign")
    assert client.get(HISTORY).context["steps"] == {"image": True, "result": True, "reading": True, "token": False}
    client.post(reverse("cases:hide_hints"))
    assert "First steps" not in client.get(HISTORY).content.decode()


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller", "mu\N{COMBINING DIAERESIS}LLER"),
        ("Mu\N{COMBINING DIAERESIS}ller", "M\N{LATIN CAPITAL LETTER U WITH DIAERESIS}LLER"),
        ("Москва", "МОСКВА"),
        ("ΜΑΣΤΟΣ", "μαστος"),
        ("Straße", "STRASSE"),
        ("100 %_x", "%_X"),
    ],
)
def test_search_knows_neither_case_nor_composition(client: Client, alice: User, stored: str, asked: str) -> None:
    CaseFactory(owner=alice, title=stored)
    CaseFactory(owner=alice, title="other")
    assert titles(client, "?" + urlencode({"q": asked})) == [stored]


def test_the_hour_that_comes_twice_belongs_to_its_day(client: Client, alice: User) -> None:
    """In Havana clocks go back at one in the morning, in the Azores at one to midnight."""
    for zone, moment, day in (
        ("America/Havana", datetime(2025, 11, 2, 5, 30, tzinfo=UTC), "2025-11-02"),
        ("Atlantic/Azores", datetime(2025, 10, 26, 0, 59, 59, 999999, tzinfo=UTC), "2025-10-26"),
        ("Asia/Beirut", datetime(2025, 10, 25, 21, 30, tzinfo=UTC), "2025-10-25"),
    ):
        alice.time_zone = zone
        alice.save()
        case = CaseFactory(owner=alice, title=zone, created_at=moment)
        assert titles(client, f"?since={day}&until={day}") == [zone]
        case.delete()
