"""The page of a case."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse

from cases import services
from cases.models import AuditEvent, Case, User
from cases.web import parts
from inference.jobs import queue
from inference.models import Analysis, ModelVersion

from .conftest import Finish


def test_it_shows_the_aggregate_with_all_that_belongs_to_a_verdict(client: Client, case: Case, finish: Finish) -> None:
    finish(0.2, "a.png")
    finish(0.9, "b.png")
    page = client.get(case.get_absolute_url()).content.decode()
    assert "Case result" in page
    assert "55.0\N{NO-BREAK SPACE}%" in page  # the mean of 0.2 and 0.9
    assert "uncalibrated" in page
    assert "Benign &lt; 50\N{NO-BREAK SPACE}%; malignant &gt; 50\N{NO-BREAK SPACE}%." in page
    assert "test 1" in page
    assert "not a medical device" in page
    assert "By image: 1 benign, 0 indeterminate, 1 malignant" in page


def test_it_leaves_out_of_domain_images_out(client: Client, case: Case, finish: Finish) -> None:
    finish(0.2, "a.png")
    finish(0.9, "cat.png", outside="This is no H&E.")
    page = client.get(case.get_absolute_url()).content.decode()
    assert "20.0\N{NO-BREAK SPACE}%" in page
    assert "1 left out (not H&amp;E breast tissue)" in page
    assert "This is no H&amp;E." in page


def test_a_mean_hides_no_malignant_image(client: Client, case: Case, finish: Finish) -> None:
    finish(0.1, "a.png")
    finish(0.1, "b.png")
    assert "front-images" not in client.get(case.get_absolute_url()).content.decode()
    small = finish(0.9, "small-lesion.png")
    page = client.get(case.get_absolute_url()).content.decode()
    assert "Review: 1 of 3 images is malignant" in page
    assert ">Benign</span>" not in page.split('id="slides-title"')[0]
    assert "The average of the images is benign" in page
    assert f'href="{small.get_absolute_url()}?order=high"' in page.split('id="slides-title"')[0]
    assert page.index("small-lesion.png") < page.index("average of 3 images")  # the image in front, the mean second
    timeline = AuditEvent.objects.filter(case=case, kind=AuditEvent.Kind.ANALYSED).latest("at")
    assert timeline.detail.startswith("Review: 1 of 3 images is malignant")
    history = client.get(reverse("cases:history")).content.decode()
    assert "Review: 1 of 3 images is malignant" in history and ">Benign</span>" not in history
    for name in ("c.png", "d.png"):
        finish(0.95, name)
    page = client.get(case.get_absolute_url()).content.decode()
    # Now the case is malignant as well.
    assert "Review:" not in page.split("Timeline")[0] and "front-images" not in page


def test_a_large_case_has_filters_pages_and_a_histogram(
    client: Client, case: Case, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PAGE", 4)
    monkeypatch.setattr(parts, "DOTS", 5)
    for number in range(8):
        finish(0.1, f"{number}.png")
    assert "chip" not in client.get(case.get_absolute_url()).content.decode()
    finish(0.9, "malignant.png")
    answer = client.get(case.get_absolute_url())
    assert [(chip["value"], chip["count"]) for chip in answer.context["chips"]] == [("benign", 8), ("malignant", 1)]
    assert len(answer.context["slides"]) == 4
    assert answer.context["dots"] == [] and sum(bar["count"] for bar in answer.context["spread"]["bars"]) == 9
    assert "1–4 of 9" in answer.content.decode()
    assert len(client.get(case.get_absolute_url(), {"page": 3}).context["slides"]) == 1
    found = client.get(case.get_absolute_url(), {"show": "malignant"})
    assert [slide.original_name for slide in found.context["slides"]] == ["malignant.png"]
    none = client.get(case.get_absolute_url(), {"show": "indeterminate"}).content.decode()
    assert "No image has this result" in none
    assert client.get(case.get_absolute_url(), {"show": "nonsense", "page": "x"}).context["show"] == ""


def test_the_counts_of_older_cases_are_filled_in(case: Case, finish: Finish) -> None:
    for probability, outside in ((0.1, ""), (0.9, ""), (0.5, ""), (0.9, "No H&E.")):
        finish(probability, outside=outside)
    case.refresh_from_db()
    counted = (case.malignant_count, case.indeterminate_count, case.rejected_count)
    assert counted == (1, 1, 1)
    Case.objects.update(malignant_count=0, indeterminate_count=0, rejected_count=0)
    import_module("cases.migrations.0015_review_counts").count(apps, None)
    case.refresh_from_db()
    assert (case.malignant_count, case.indeterminate_count, case.rejected_count) == counted


def test_an_edit_does_not_undo_what_ended_meanwhile(case: Case, finish: Finish) -> None:
    loaded = Case.objects.get(pk=case.pk)
    finish(0.9)
    loaded.title = "Renamed"
    loaded.save()
    case.refresh_from_db()
    assert (case.title, case.verdict, case.slide_count, case.open_count) == ("Renamed", "malignant", 1, 0)


def test_it_says_which_images_count_twice(client: Client, case: Case, finish: Finish) -> None:
    finish(0.1, "a.png")
    assert "Duplicate file" not in client.get(case.get_absolute_url()).content.decode()
    finish(0.1, "cat.png", outside="No H&E.")
    assert "Duplicate file" not in client.get(case.get_absolute_url()).content.decode()  # it is left out
    finish(0.1, "copy-of-a.png")
    assert (
        "Duplicate file, counted twice: a.png, copy-of-a.png." in client.get(case.get_absolute_url()).content.decode()
    )


def test_it_never_rounds_up_to_certainty(client: Client, case: Case, finish: Finish) -> None:
    finish(0.99999)
    page = client.get(case.get_absolute_url()).content.decode()
    assert "&gt; 99.9\N{NO-BREAK SPACE}%" in page
    assert "100.0\N{NO-BREAK SPACE}%" not in page


def test_it_sorts_by_name_as_people_count(client: Client, case: Case, finish: Finish) -> None:
    for name in ("field-10.png", "field-9.png", "field-1.png"):
        finish(0.5, name)
    shown = [slide.original_name for slide in client.get(case.get_absolute_url()).context["slides"]]
    assert shown == ["field-1.png", "field-9.png", "field-10.png"]


def test_it_sorts_by_probability_with_undecided_last(client: Client, case: Case, finish: Finish) -> None:
    finish(0.2, "low.png")
    finish(0.9, "high.png")
    finish(0.5, "cat.png", outside="No H&E.")
    shown = client.get(case.get_absolute_url() + "?order=high").context["slides"]
    assert [slide.original_name for slide in shown] == ["high.png", "low.png", "cat.png"]


def test_it_says_when_no_worker_runs(client: Client, case: Case, slide: object) -> None:
    assert "no worker is running" in client.get(case.get_absolute_url()).content.decode()


def test_it_folds_what_was_added_in_one_go(client: Client, case: Case, finish: Finish) -> None:
    for number in range(3):
        services.add_slides(case, [])
        services.record(case, AuditEvent.Kind.ADDED, case.owner, f"{number}.png")
    lines = client.get(case.get_absolute_url()).context["events"]
    assert [line["count"] for line in lines if line["event"].kind == AuditEvent.Kind.ADDED] == [3]


def test_a_reviewer_may_look_and_is_noted(case: Case, reviewer: User, done: object, client_of: Callable) -> None:
    page = client_of(reviewer).get(case.get_absolute_url())
    assert page.status_code == 200
    assert "Delete case" not in page.content.decode()
    assert case.events.filter(kind=AuditEvent.Kind.VIEWED).exists()


def test_an_outsider_gets_the_same_as_for_nothing(case: Case, charlie: User, client_of: Callable) -> None:
    assert client_of(charlie).get(case.get_absolute_url()).status_code == 404


def test_it_takes_a_constant_number_of_queries(
    client: Client, case: Case, finish: Finish, django_assert_max_num_queries: Callable
) -> None:
    for number in range(6):
        finish(0.1 * number, f"{number}.png")
    client.get(case.get_absolute_url())  # a session's first page also notes the device
    with django_assert_max_num_queries(20):
        client.get(case.get_absolute_url())


def test_rerun_queues_every_slide_once(client: Client, case: Case, done: object, model: ModelVersion) -> None:
    for _ in range(2):
        client.post(reverse("cases:rerun", args=[case.pk]))
    assert Analysis.objects.filter(is_current=True, state="queued").count() == 1
    assert Analysis.objects.count() == 2
    assert queue.position(Analysis.objects.get(is_current=True)) == 0


def test_delete_asks_first(client: Client, case: Case, done: object) -> None:
    assert "can’t be undone" in client.get(reverse("cases:delete", args=[case.pk])).content.decode()
    assert Case.objects.filter(pk=case.pk).exists()
    client.post(reverse("cases:delete", args=[case.pk]))
    assert not Case.objects.filter(pk=case.pk).exists()
