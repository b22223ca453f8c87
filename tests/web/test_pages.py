"""Pages beside the cases: help, status, preferences, accounts, errors, administration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.models import Case, User
from inference.models import Analysis, ModelVersion
from tests.factories import PASSWORD

from .conftest import Finish


@pytest.mark.django_db
def test_help_explains_without_an_account() -> None:
    page = Client().get(reverse("cases:help")).content.decode()
    assert "Not H&amp;E breast tissue" in page
    assert "not a medical device" in page


def test_status_tells_people_and_scripts(client: Client, model: ModelVersion) -> None:
    assert "No worker is running" in client.get(reverse("cases:status")).content.decode()
    data = client.get(reverse("cases:status"), headers={"accept": "application/json"}).json()
    assert (data["state"], data["worker"]) == ("down", False)


def test_the_theme_can_be_switched_and_leads_back(client: Client, alice: User) -> None:
    answer = client.post(reverse("cases:theme"), {"theme": "dark", "next": "/help/"})
    assert answer.headers["Location"] == "/help/"
    assert 'data-theme="dark"' in client.get("/help/").content.decode()
    client.post(reverse("cases:theme"), {"theme": "pink", "next": "https://evil.example"})
    alice.refresh_from_db()
    assert alice.theme == "dark"


def test_preferences_are_kept_and_checked(client: Client, alice: User) -> None:
    values = {"theme": "light", "default_magnification": "100X", "time_zone": "Europe/Berlin"}
    client.post(reverse("cases:preferences"), values)
    alice.refresh_from_db()
    assert alice.time_zone == "Europe/Berlin"
    answer = client.post(reverse("cases:preferences"), {**values, "time_zone": "Mars/Olympus"})
    assert answer.status_code == 400
    assert "is not a time zone" in answer.content.decode()


@pytest.mark.django_db
def test_sign_up_sign_out_sign_in() -> None:
    client = Client()
    values = {"username": "dana", "email": "dana@example.org", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/accounts/signup/", values).headers["Location"] == "/cases/"
    client.post("/accounts/logout/")
    assert client.get("/cases/").status_code == 302
    assert client.post("/accounts/login/", {"login": "dana@example.org", "password": PASSWORD}).status_code == 302
    assert client.get("/cases/").status_code == 200


@pytest.mark.django_db
def test_sign_up_can_be_closed(settings: object) -> None:
    settings.SIGNUP_OPEN = False  # type: ignore[attr-defined]
    page = Client().get("/accounts/signup/").content.decode()
    assert "password1" not in page


def test_a_forgotten_password_can_be_set_anew(alice: User) -> None:
    client = Client()
    client.post("/accounts/password/reset/", {"email": alice.email})
    address = next(word for word in str(mail.outbox[0].body).split() if "/password/reset/key/" in word)
    page = client.get(address.replace("http://testserver", ""), follow=True)
    new = "another long password 77"
    client.post(page.redirect_chain[-1][0], {"password1": new, "password2": new})
    assert client.login(username="alice", password=new)


@pytest.mark.django_db
def test_a_missing_page_wears_the_design() -> None:
    answer = Client().get("/nowhere/")
    assert answer.status_code == 404
    assert "Page not found" in answer.content.decode()


@pytest.mark.parametrize("code", [400, 403, 404, 405, 413, 429, 500])
def test_error_pages_need_nothing(code: int) -> None:
    assert str(code) in render_to_string(f"{code}.html")


def test_an_address_that_only_takes_forms_says_so(client: Client, case: Case) -> None:
    answer = client.get(reverse("cases:review", args=[case.pk]))
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "only accepts form submissions" in answer.content.decode()


def test_an_expired_form_is_explained(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    answer = client.post("/cases/new/", {"title": "x"})
    assert answer.status_code == 403
    assert "This page has expired" in answer.content.decode()


def test_pages_allow_no_inline_code(client: Client, case: Case, done: object) -> None:
    for address in ("/cases/", "/cases/new/", case.get_absolute_url(), "/help/", "/accounts/sessions/"):
        answer = client.get(address)
        assert "script-src 'self'" in answer["Content-Security-Policy"]
        page = answer.content.decode()
        assert " style=" not in page
        assert " onclick=" not in page


def test_admin_pages_open_for_staff(reviewer: User, case: Case, done: object, client_of: Callable) -> None:
    rita = client_of(reviewer)
    pages = ["index", "cases_case_changelist", "cases_slide_changelist", "cases_review_changelist"]
    pages += ["inference_analysis_changelist", "inference_modelversion_changelist"]
    for page in pages:
        assert rita.get(reverse(f"admin:{page}")).status_code == 200
    page = rita.get(reverse("admin:cases_case_change", args=[case.pk])).content.decode()
    assert "slides with maps" in page.lower()


def test_the_case_list_of_the_admin_takes_few_queries(
    reviewer: User, case: Case, finish: Finish, client_of: Callable, django_assert_max_num_queries: Callable
) -> None:
    for number in range(5):
        finish(0.1, f"{number}.png")
    rita = client_of(reviewer)
    with django_assert_max_num_queries(25):
        rita.get(reverse("admin:cases_case_changelist"))


def test_staff_assign_and_mark_many_at_once(reviewer: User, case: Case, client_of: Callable) -> None:
    rita = client_of(reviewer)
    address = reverse("admin:cases_case_changelist")
    chosen = {"_selected_action": [str(case.pk)]}
    assert "Second reader" in rita.post(address, {**chosen, "action": "assign"}).content.decode()
    rita.post(address, {**chosen, "action": "assign", "reviewer": str(reviewer.pk)})
    rita.post(address, {**chosen, "action": "mark_for_teaching"})
    case.refresh_from_db()
    assert case.assigned_to == reviewer
    assert case.is_teaching


def test_results_cant_be_changed_in_the_admin(reviewer: User, done: object, client_of: Callable) -> None:
    reviewer.user_permissions.set(Permission.objects.filter(content_type__app_label__in=["cases", "inference"]))
    analysis = Analysis.objects.get()
    rita = client_of(User.objects.get(pk=reviewer.pk))
    assert rita.post(reverse("admin:inference_analysis_change", args=[analysis.pk]), {}).status_code == 403
    assert rita.post(reverse("admin:inference_analysis_delete", args=[analysis.pk]), {}).status_code == 403


def test_the_model_tells_its_figures(client: Client, model: ModelVersion) -> None:
    metrics = {"benign_wrong": 0.297, "out_of_fold": {"breakhis": {"auc": 0.84}}}
    metadata = {"metrics": metrics, "training": {"groups": ["a"] * 48, "recipe": {"folds": 5}}}
    # Error rates are kept by checksum.
    ModelVersion.objects.filter(pk=model.pk).update(metadata=metadata, sha256="4" * 64)
    page = client.get(reverse("cases:model", args=[model.pk])).content.decode()
    assert "Do not rely on a benign result by itself." in page
    assert "About 3 in 10 benign results were wrong" in page
    assert '<th scope="row">BreakHis</th><td class="number">0.840</td>' in page
    assert "<dd>48</dd>" in page and "{&#x27;" not in page
    assert 'role="img"' not in page  # no figures lie beside this checkpoint


def test_the_model_page_draws_the_figures_beside_the_checkpoint(
    client: Client, model: ModelVersion, settings: Any, tmp_path: Path
) -> None:
    settings.MODEL_DIR = tmp_path
    curve = {"name": "BreakHis", "images": 9, "groups": 3, "auc": 0.84, "roc": [[0, 0], [0.2, 0.8], [1, 1]],
             "reliability": [{"mean": 0.3, "share": 0.4, "images": 9}]}  # fmt: skip
    found = {
        "checkpoint_sha256": model.sha256,
        "curves": [curve],
        "subtypes": [{"name": "mucinous carcinoma", "malignant": True, "images": 68, "groups": 5, "right": 0.71}],
        "magnifications": [{"name": "100X", "groups": 28, "benign": [99, 243], "malignant": [225, 247]}],
    }
    file = tmp_path / "test.figures.json"
    address = reverse("cases:model", args=[model.pk])
    for content in ("damaged", json.dumps(found | {"checkpoint_sha256": "1" * 64})):
        file.write_text(content)
        assert "ROC" not in client.get(address).content.decode()
    file.write_text(json.dumps(found))
    page = client.get(address).content.decode()
    assert "BreakHis: area 0.84" in page and "Mean probability 30%: 40% malignant, 9 images" in page
    assert "Mucinous carcinoma" in page and "71\N{NO-BREAK SPACE}%" in page and "99 of 243" in page
    assert " style=" not in page


def test_the_admin_shows_no_probability_out_of_domain(reviewer: User, finish: Finish, client_of: Callable) -> None:
    slide = finish(0.125, "photograph.png", outside="No H&E.")
    Analysis.objects.update(probability=0.125, confidence=0.875)
    Case.objects.update(probability=0.125)
    rita = client_of(reviewer)
    for name in ("cases_case_changelist", "cases_slide_changelist", "inference_analysis_changelist"):
        page = rita.get(reverse(f"admin:{name}")).content.decode()
        assert slide.original_name in page or slide.case.title in page
        assert "12.5" not in page and "87.5" not in page
    for name, pk in (
        ("cases_case_change", slide.case_id),
        ("cases_slide_change", slide.pk),
        ("inference_analysis_change", slide.analyses.get().pk),
    ):
        page = rita.get(reverse(f"admin:{name}", args=[pk])).content.decode()
        assert "Not H&amp;E breast tissue" in page and "12.5" not in page and "87.5" not in page


def test_times_are_the_servers_until_somebody_chooses(client: Client, alice: User, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    timezone.get_default_timezone.cache_clear()
    try:
        client.get("/cases/")
        assert alice.time_zone == ""
        assert timezone.get_current_timezone_name() == "Asia/Tokyo"
        User.objects.update(time_zone="Europe/Berlin")
        client.get("/cases/")
        assert timezone.get_current_timezone_name() == "Europe/Berlin"
    finally:
        timezone.deactivate()
        timezone.get_default_timezone.cache_clear()
