"""A blinded double reading stays blind, whatever happens at the same moment."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.urls import reverse

from cases import services
from cases.models import Case, Review, Slide, User
from cases.reporting import agreement, pdf
from tests.factories import PASSWORD, UserFactory

As = Callable[[User], Client]


@pytest.fixture
def blinded(case: Case) -> Case:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    case.refresh_from_db()
    return case


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["portal", "administration"])
def test_a_reading_signed_while_the_blinding_is_lifted_waits_for_that(
    where: str, blinded: Case, alice: User, reviewer: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of a form and its save nobody signs: else a first reading, signed blind, would lie open."""

    def sign() -> None:
        try:
            services.sign_review(blinded, reviewer, "malignant")
        finally:
            connection.close()

    signing = threading.Thread(target=sign)
    clean = Case.clean

    def slow_clean(case: Case) -> None:
        clean(case)
        signing.start()
        time.sleep(0.3)
        assert not Review.objects.exists()

    monkeypatch.setattr(Case, "clean", slow_clean)
    if where == "portal":
        answer = as_user(alice).post(reverse("cases:edit", args=[blinded.pk]), {"title": "x", "magnification": "40X"})
    else:
        root = User.objects.create_superuser("root", password=PASSWORD)
        inlines = {f"{name}-{field}": "0" for name in ("slides", "reviews", "events")
                   for field in ("TOTAL_FORMS", "INITIAL_FORMS")}  # fmt: skip
        answer = as_user(root).post(reverse("admin:cases_case_change", args=[blinded.pk]), inlines)
    signing.join()
    assert answer.status_code == 302
    blinded.refresh_from_db()
    assert not blinded.is_blinded
    assert not Review.objects.get().was_blind


def test_what_is_signed_after_the_others_was_seen_counts_in_no_figure(
    blinded: Case, alice: User, reviewer: User
) -> None:
    Case.objects.filter(pk=blinded.pk).update(verdict="benign", probability=0.2)
    blinded.refresh_from_db()
    services.sign_review(blinded, alice, "benign")
    services.sign_review(blinded, alice, "malignant")
    services.sign_review(blinded, reviewer, "uncertain")
    services.sign_review(blinded, reviewer, "malignant")
    services.sign_review(blinded, alice, "benign")
    said = {review.author_id: review.reading for review in agreement.latest_reviews(reviewer)}
    assert said == {alice.pk: "malignant", reviewer.pk: "uncertain"}


def test_readings_say_whether_they_were_signed_blind(blinded: Case, alice: User, reviewer: User, as_user: As) -> None:
    for author in (alice, reviewer, reviewer):
        services.sign_review(blinded, author, "benign")
    exported: Any = as_user(alice).get(reverse("cases:export", args=[blinded.pk, "json"])).json()
    assert sorted(reading["blind"] for reading in exported["cases"][0]["reviews"]) == [False, True, True]
    page = as_user(alice).get(blinded.get_absolute_url()).content.decode()
    assert page.count('<span class="tag">blind</span>') == 2


def test_readings_of_before_are_told_apart_by_the_migration(blinded: Case, alice: User, reviewer: User) -> None:
    for author in (alice, alice, reviewer, reviewer):
        services.sign_review(blinded, author, "benign")
    before = list(Review.objects.order_by("created_at").values_list("was_blind", flat=True))
    Review.objects.update(was_blind=False)
    migration = importlib.import_module("cases.migrations.0007_review_was_blind")
    migration.tell_which_were_blind(apps, None)
    assert list(Review.objects.order_by("created_at").values_list("was_blind", flat=True)) == before
    assert before == [True, True, True, False]


def test_the_administrations_history_page_takes_a_form_as_nonsense_not_as_a_failure(
    case: Case, root: User, as_user: As
) -> None:
    assert as_user(root).post(reverse("admin:cases_case_history", args=[case.pk])).status_code < 500


@pytest.fixture
def read_once(case: Case, alice: User) -> Case:
    case.is_blinded = True
    case.save()
    services.sign_review(case, UserFactory(username="second", is_superuser=True), "malignant", comment="SECRET-READING")
    return case


def test_an_owner_can_not_lift_the_blinding_to_look(read_once: Case, as_user: As, alice: User) -> None:
    client = as_user(alice)
    form = {"title": read_once.title, "magnification": "unknown", "overlap": "0.0"}
    assert client.post(reverse("cases:edit", args=[read_once.pk]), form).status_code == 400
    assert b"SECRET-READING" not in client.get(reverse("cases:case", args=[read_once.pk])).content
    services.sign_review(read_once, alice, "benign")
    assert client.post(reverse("cases:edit", args=[read_once.pk]), form).status_code == 302


def test_a_reviewer_can_not_lift_it_in_the_administration(read_once: Case, as_user: As, reviewer: User) -> None:
    client = as_user(reviewer)
    path = reverse("admin:cases_case_change", args=[read_once.pk])
    page = client.get(path)
    form = {
        f"{formset.formset.prefix}-{name}": value
        for formset in page.context["inline_admin_formsets"]
        for name, value in formset.formset.management_form.initial.items()
    }
    client.post(path, {**form, "assigned_to": "", "_save": "Save"})
    read_once.refresh_from_db()
    assert read_once.is_blinded
    assert b"SECRET-READING" not in client.get(path).content


def test_no_way_of_reading_a_blinded_case_shows_the_other_reading(
    read_once: Case, as_user: As, alice: User, reviewer: User
) -> None:
    for user in (alice, reviewer):
        client = as_user(user)
        for path in (
            reverse("cases:case", args=[read_once.pk]),
            reverse("cases:export", args=[read_once.pk, "json"]),
            reverse("cases:export", args=[read_once.pk, "csv"]),
            reverse("cases:trail", args=[read_once.pk]),
            reverse("cases:trail_export", args=[read_once.pk, "json"]),
            reverse("cases:export_history", args=["json"]),
            reverse("cases:history"),
            reverse("api:case", args=[read_once.pk]),
            reverse("api:case-reviews", args=[read_once.pk]),
            reverse("admin:cases_review_changelist"),
            reverse("admin:cases_case_changelist") + "?reviews__reading=malignant",
        ):
            content = client.get(path).content
            assert b"SECRET-READING" not in content, path
            if path.startswith("/admin/cases/case"):
                assert read_once.title.encode() not in content, "a filter may not tell what is hidden"


def test_a_reports_number_tells_nothing_of_a_hidden_reading(case: Case, slide: Slide, reviewer: User) -> None:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    case.refresh_from_db()
    before = pdf.content_checksum(case, reviewer)
    services.sign_review(case, reviewer, "malignant", comment="first opinion")
    assert pdf.content_checksum(case, reviewer) == before
    services.sign_review(case, case.owner, "benign")
    assert pdf.content_checksum(case, reviewer) != before


def test_who_deletes_a_person_is_not_shown_hidden_readings(case: Case, root: User, as_user: As) -> None:
    other = UserFactory(username="second", is_staff=True, is_superuser=True)
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    services.sign_review(case, other, "malignant", comment="first opinion")
    page = as_user(root).get(reverse("admin:cases_user_delete", args=[other.pk]))
    assert page.status_code == 200
    assert "Malignant" not in page.content.decode()
