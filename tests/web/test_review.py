"""Readings: signed, blinded, counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from cases import services
from cases.models import Case, Review, User
from cases.reporting import agreement
from cases.reporting.agreement import cohen_kappa
from cases.web.forms import ReviewForm
from tests.factories import CaseFactory

from .conftest import Finish


def sign(client: Client, case: Case, **values: str) -> None:
    client.post(reverse("cases:review", args=[case.pk]), {"reading": "malignant", **values})


def test_it_records_what_the_model_said_at_that_moment(client: Client, case: Case, finish: Finish) -> None:
    finish(0.2)
    sign(client, case, subtype="Ductal carcinoma")
    finish(0.99, "b.png")
    review = Review.objects.get()
    assert (review.verdict, review.probability) == ("benign", pytest.approx(0.2))
    assert str(review.model_version) == "test 1"
    assert review.agrees is False
    assert "disagrees with the model" in client.get(case.get_absolute_url()).content.decode()


def test_it_never_overwrites(client: Client, case: Case) -> None:
    sign(client, case)
    sign(client, case, reading="benign")
    assert Review.objects.count() == 2


def test_it_needs_a_reading(client: Client, case: Case) -> None:
    page = client.post(reverse("cases:review", args=[case.pk]), {"reading": "maybe"}, follow=True)
    assert "nothing was saved" in page.content.decode()
    assert not Review.objects.exists()


def test_sign_and_next_leads_to_the_next_unread_case(
    client: Client, case: Case, reviewer: User, alice: User, finish: Finish, client_of: Callable
) -> None:
    older, newer, assigned, read = (CaseFactory(owner=alice, title=title) for title in ("old", "new", "mine", "read"))
    for of in (case, older, newer, assigned, read):
        finish(0.2, of=of)
    for hours, of in ((1, older), (-1, newer), (0.5, assigned), (3, read)):
        Case.objects.filter(pk=of.pk).update(created_at=case.created_at - timedelta(hours=hours))
    Case.objects.filter(pk=assigned.pk).update(assigned_to=reviewer)
    CaseFactory(owner=alice, title="without images")
    services.sign_review(read, reviewer, "benign")
    rita, at = client_of(reviewer), case
    for expected in (assigned, older, newer):
        answer = rita.post(reverse("cases:review", args=[at.pk]), {"reading": "benign", "then": "next"})
        assert answer["Location"] == expected.get_absolute_url()
        at = expected
    answer = rita.post(reverse("cases:review", args=[at.pk]), {"reading": "benign", "then": "next"}, follow=True)
    assert "No other case awaits your reading" in answer.content.decode()
    assert answer.request["PATH_INFO"] == reverse("cases:history")


def test_it_suggests_terms_of_the_who_and_takes_any_other(client: Client, case: Case) -> None:
    page = client.get(case.get_absolute_url()).content.decode()
    assert '<option value="Invasive lobular carcinoma">' in page
    sign(client, case, subtype="Something else")
    assert Review.objects.get().subtype == "Something else"
    assert all(len(name) <= 60 for name in ReviewForm.subtypes)


def test_a_blinded_reading_stays_hidden_until_two_have_read(
    client: Client, case: Case, reviewer: User, client_of: Callable
) -> None:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    rita = client_of(reviewer)
    sign(client, case, comment="first opinion")
    sign(client, case, comment="first opinion again")
    for address in (case.get_absolute_url(), reverse("cases:export", args=[case.pk, "json"])):
        assert "first opinion" not in rita.get(address).content.decode()
        assert "first opinion" in client.get(address).content.decode()
    sign(rita, case, comment="second opinion")
    assert "first opinion" in rita.get(case.get_absolute_url()).content.decode()
    assert "second opinion" in client.get(case.get_absolute_url()).content.decode()


def test_statistics_count_a_blinded_case_once_two_have_read(
    client: Client, case: Case, alice: User, reviewer: User, finish: Finish, client_of: Callable
) -> None:
    finish(0.2)
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    sign(client, case)
    assert len(agreement.latest_reviews(reviewer)) == 0
    assert len(agreement.latest_reviews(alice)) == 1
    sign(client_of(reviewer), case)
    assert len(agreement.latest_reviews(reviewer)) == len(agreement.latest_reviews(alice)) == 2


def test_kappa_against_a_textbook_table() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, expected 0.5, kappa 0.4.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([]) is None
    assert cohen_kappa([("y", "y")] * 3) is None


def test_statistics_count_the_latest_reading_of_each_reader(alice: User, reviewer: User, finish: Finish) -> None:
    case = finish(0.9).case
    case.refresh_from_db()
    services.sign_review(case, alice, "benign")
    services.sign_review(case, alice, "malignant")
    services.sign_review(case, reviewer, "benign")
    found = agreement.compute(agreement.latest_reviews(reviewer))
    assert found.readings == 2
    assert found.overall.n == 2
    assert found.overall.share == 0.5
    assert [(row[0], row[2]) for row in found.confusion][:2] == [("benign", [0, 1, 0, 0]), ("malignant", [0, 1, 0, 0])]
    assert found.bins[-1].n == 2
    assert found.bins[-1].share == 0.5


def test_the_page_shows_them_and_warns_of_small_numbers(client: Client, case: Case, done: object) -> None:
    sign(client, case)
    page = client.get(reverse("cases:statistics")).content.decode()
    assert "Fewer than 20 cases" in page
    assert "Cohen" in page


def test_charts_tell_the_same_in_words(client: Client, case: Case, done: object) -> None:
    sign(client, case)
    page = client.get(reverse("cases:statistics")).content.decode()
    assert 'aria-label="Malignant: Benign 1"' in page
    assert "Mean probability 20%: 100% of 1 case read as malignant" in page
    assert ": 0% agreement, 1 case." in page
    assert " style=" not in page


def test_it_is_empty_before_any_reading(client: Client) -> None:
    assert "No readings yet" in client.get(reverse("cases:statistics")).content.decode()
