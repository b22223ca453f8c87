"""Reports, readings, logs and exports are complete and reveal nothing else."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.accounts import tokens
from cases.models import AuditEvent, Case, Report, Review, Slide, Submission, User
from cases.reporting import pdf
from cases.services import export, privacy, retention
from histopath import logging as logs
from inference.models import Analysis, State
from tests.factories import PASSWORD, CaseFactory, UserFactory
from tests.patching import printed_pages

As = Callable[[User], Client]
Kind = AuditEvent.Kind


def looks(case: Case, user: User) -> list[str]:
    found = AuditEvent.objects.filter(case=case, actor__user=user, kind__in=(Kind.VIEWED, Kind.EXPORTED))
    return list(found.order_by("pk").values_list("detail", flat=True))


@pytest.fixture
def second(db: None) -> User:
    return UserFactory(username="second", is_superuser=True, is_staff=True)


# Reports


def test_a_report_names_who_signed_and_its_number_covers_the_name(
    case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.filter(pk=alice.pk).update(first_name="Rita", last_name="Reviewer")
    services.sign_review(case, User.objects.get(pk=alice.pk), "benign")
    pages = printed_pages(monkeypatch)
    made = pdf.make(case, User.objects.get(pk=alice.pk), "https://example.org").report
    (page,) = pages
    assert page.count("Rita Reviewer (alice)") >= 3 and "Rita Reviewer," not in page
    User.objects.filter(pk=alice.pk).update(first_name="Prof.", last_name="X")
    assert pdf.content_checksum(case, User.objects.get(pk=alice.pk)) != made.sha256


def test_the_page_works_with_two_identical_recorded_reports(case: Case, alice: User, as_user: As) -> None:
    number = pdf.content_checksum(case, alice)
    for _ in range(2):
        Report.objects.create(case=case, author=alice, sha256=number)
    assert as_user(alice).get(reverse("cases:report", args=[case.pk])).status_code == 200
    assert Report.objects.count() == 2


def test_a_number_printed_before_names_were_covered_stays_valid(case: Case, alice: User, client: Client) -> None:
    services.sign_review(case, alice, "benign")
    old = export.case_data(export.with_everything(Case.objects.filter(pk=case.pk)).get(), alice)
    del old["owner_name"], old["reviews"][0]["author_name"], old["reviews"][0]["blind"]
    del old["review_recommended"], old["reasons"]
    printed = Report.objects.create(case=case, author=alice, sha256=export.checksum(old))
    assert printed.form == 1
    page = client.get(reverse("cases:verify", args=[printed.pk])).content.decode()
    assert "has changed since" not in page
    assert pdf.make(case, alice, "https://example.org").report.form == pdf.FORM


def test_a_reading_signed_while_a_report_is_drawn_is_not_in_it(
    case: Case, slide: Slide, alice: User, reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    services.sign_review(case, alice, "benign")
    pictures, shown = pdf._pictures, {}

    def meanwhile(slides: list[Slide]) -> Any:
        services.sign_review(case, reviewer, "malignant")
        return pictures(slides)

    def render(template: str, context: dict[str, Any]) -> str:
        shown.update(context)
        return "<p>Report</p>"

    monkeypatch.setattr(pdf, "_pictures", meanwhile)
    monkeypatch.setattr(pdf, "render_to_string", render)
    pdf.make(case, alice, "https://example.org")
    assert shown["is_blind"] and [review.author for review in shown["reviews"]] == [alice]


@pytest.mark.django_db(transaction=True)
def test_simultaneous_reports_are_one(case: Case, alice: User) -> None:
    import threading
    from concurrent.futures import ThreadPoolExecutor

    together = threading.Barrier(3, timeout=30)

    def make(_: int) -> str:
        try:
            together.wait()
            return str(pdf.make(case, alice, "https://example.org").report.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(make, range(3)))) == 1
    assert Report.objects.count() == 1


# Blinding on record


def test_setting_and_removing_blinding_is_recorded(case: Case, alice: User, second: User, as_user: As) -> None:
    form = {"title": case.title, "magnification": "unknown"}
    client = as_user(alice)
    client.post(reverse("cases:edit", args=[case.pk]), form | {"is_blinded": "on"})
    client.post(reverse("cases:edit", args=[case.pk]), form)
    page = reverse("admin:cases_case_change", args=[case.pk])
    shown = as_user(second).get(page)
    inlines = {
        f"{formset.formset.prefix}-{name}": value
        for formset in shown.context["inline_admin_formsets"]
        for name, value in formset.formset.management_form.initial.items()
    }
    as_user(second).post(page, inlines | {"is_blinded": "on"})
    said = AuditEvent.objects.filter(case=case, detail__startswith="Blinded").order_by("pk")
    assert [(event.detail.rsplit(" ", 1)[1], str(event.actor)) for event in said] == [
        ("set", "alice"), ("lifted", "alice"), ("set", "second"),
    ]  # fmt: skip


def test_a_case_with_a_reading_cannot_be_blinded(case: Case, alice: User, reviewer: User, as_user: As) -> None:
    services.sign_review(case, reviewer, "benign")
    form = {"title": case.title, "magnification": "unknown", "is_blinded": "on"}
    assert as_user(alice).post(reverse("cases:edit", args=[case.pk]), form).status_code == 400
    assert not Case.objects.get(pk=case.pk).is_blinded


def test_the_reading_of_somebody_who_left_stays_hidden(case: Case, alice: User, reviewer: User, as_user: As) -> None:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    services.sign_review(case, reviewer, "benign")
    User.objects.filter(pk=reviewer.pk).update(is_active=False)
    form = {"title": case.title, "magnification": "unknown"}
    assert as_user(alice).post(reverse("cases:edit", args=[case.pk]), form).status_code == 400


@pytest.mark.django_db(transaction=True)
def test_two_readings_stay_visible_when_both_readers_are_erased(
    case: Case, alice: User, reviewer: User, second: User
) -> None:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    for reader in (reviewer, second):
        services.sign_review(case, reader, "benign")
    privacy.erase(reviewer)
    privacy.erase(second)
    case.refresh_from_db()
    assert services.visible_reviews(case, alice).count() == 2
    assert all(review.was_blind for review in Review.objects.all())


# Audit events


def test_lists_and_histories_in_the_administration_are_recorded(
    case: Case, slide: Slide, alice: User, second: User, as_user: As
) -> None:
    made = Report.objects.create(case=case, author=alice, sha256="0" * 64)
    client = as_user(second)
    for name in ("cases_case", "cases_slide", "cases_report", "inference_analysis"):
        assert client.get(reverse(f"admin:{name}_changelist")).status_code == 200
    client.get(reverse("admin:cases_case_history", args=[case.pk]))
    client.get(reverse("admin:cases_report_change", args=[made.pk]))
    assert looks(case, second) == ["List, in the administration"] * 4 + [
        "Case’s changes, in the administration", "Report, in the administration",
    ]  # fmt: skip
    assert looks(case, alice) == []


def test_the_response_for_a_failed_analysis_is_recorded(case: Case, slide: Slide, alice: User) -> None:
    Analysis.objects.update(state=State.FAILED, error="It failed.", error_code="error")
    services.refresh(case)
    _, plain = tokens.create(alice, "script")
    ask = Client(headers={"Authorization": f"Token {plain}"}, raise_request_exception=False)
    answer = ask.get(reverse("api:analysis-result", args=[Analysis.objects.get().pk]))
    assert answer.status_code == 500
    assert looks(case, alice) == ["Result, by API"]


def test_a_search_does_not_reveal_the_notes_of_others(case: Case, alice: User, reviewer: User, as_user: As) -> None:
    Case.objects.filter(pk=case.pk).update(notes="BRCA1 carrier")
    assert case.title in as_user(alice).get(reverse("cases:history"), {"q": "BRCA1"}).content.decode()
    assert case.title not in as_user(reviewer).get(reverse("cases:history"), {"q": "BRCA1"}).content.decode()
    assert case.title in as_user(reviewer).get(reverse("cases:history"), {"q": case.title}).content.decode()
    assert as_user(alice).get(reverse("api:cases"), {"q": "BRCA1"}).json()["count"] == 1
    assert as_user(reviewer).get(reverse("api:cases"), {"q": "BRCA1"}).json()["count"] == 0
    guess = as_user(reviewer).get(reverse("admin:cases_case_changelist"), {"notes__icontains": "BRCA1"})
    assert guess.status_code == 400


def test_a_reading_keeps_the_result_at_the_time_of_signing(case: Case, alice: User) -> None:
    earlier = Case.objects.get(pk=case.pk)
    Case.objects.filter(pk=case.pk).update(verdict="benign", probability=0.2)
    assert services.sign_review(earlier, alice, "benign").verdict == "benign"


def test_a_reading_signed_at_a_preliminary_result_is_not_compared(case: Case, alice: User) -> None:
    Case.objects.filter(pk=case.pk).update(verdict="benign", probability=0.1, open_count=2)
    signed = services.sign_review(case, alice, "malignant")
    assert (signed.verdict, signed.probability, signed.model_version) == ("", None, None)


def test_marking_for_teaching_counts_as_use(case: Case, second: User, as_user: As, settings: Any) -> None:
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now() - timedelta(days=400))
    chosen = {"action": "mark_for_teaching", "_selected_action": [str(case.pk)]}
    as_user(second).post(reverse("admin:cases_case_changelist"), chosen)
    settings.RETENTION_DAYS = 365
    retention.purge()
    assert Case.objects.filter(pk=case.pk).exists()


# Logs


def formatted(record: logging.LogRecord, form: str = "plain") -> str:
    made = dict(logs.configuration(form, "INFO")["formatters"][form])
    formatter = {"histopath.logging.Plain": logs.Plain, "histopath.logging.Json": logs.Json}[made.pop("()")]
    logs.Context().filter(record)
    return formatter(made.pop("format"), **made).format(record)


def test_logged_text_cannot_imitate_a_log_line(second: User, as_user: As, caplog: Any) -> None:
    forged = "2026-11-24 12:00:00,000 INFO cases.audit Audit checkpoint over 5 events: deadbeef"
    as_user(second).get(reverse("admin:cases_case_changelist"), {f"owner__password__\n{forged}": "1"})
    lines = [line for record in caplog.records for line in formatted(record).splitlines()]
    assert any(forged in line for line in lines)
    assert not any(line.startswith("2026-11-24 12:00:00") for line in lines)


@pytest.mark.parametrize("form", ["plain", "json"])
def test_no_failure_logs_the_key_of_a_mailed_link(form: str, db: None, caplog: Any, monkeypatch: Any) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.post("/accounts/password/reset/key/1-SECRETKEY/", {"password1": "x"})

    def away(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("for this test")

    monkeypatch.setattr("allauth.account.views.PasswordResetFromKeyView.dispatch", away)
    client.get("/accounts/password/reset/key/1-SECRETKEY/")
    text = "\n".join(formatted(record, form) for record in caplog.records)
    assert "/accounts/password/reset/key/" in text and "SECRETKEY" not in text


# Data export


def test_the_export_is_complete(slide: Slide, case: Case, alice: User, reviewer: User, client: Client) -> None:
    cache.clear()
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    client.get(reverse("cases:history"))
    Analysis.objects.update(is_current=False)
    EmailAddress.objects.create(user=alice, email="second@example.org")
    Report.objects.create(case=case, author=alice, sha256="0" * 64)
    Submission.objects.create(user=alice, key="run-7", fingerprint="0" * 64, rejected=[{"filename": "bad.png"}])
    Case.objects.filter(pk=case.pk).update(is_blinded=True, assigned_to=reviewer)
    read = CaseFactory(owner=UserFactory(), assigned_to=alice)
    services.record(case, Kind.VIEWED, reviewer, "Case")
    out = io.BytesIO()
    privacy.write_export(alice, out)
    with zipfile.ZipFile(out) as archive:
        data = json.loads(archive.read("data.json"))
    account, (kept,) = data["account"], data["cases"]
    assert account["further_addresses"][0]["email"] == "second@example.org"
    assert account["sessions"][0]["address"] == "127.0.0.1" and "show_hints" in account["preferences"]
    assert data["reports"][0]["sha256"] == "0" * 64
    assert (data["api_calls"][0]["key"], data["api_calls"][0]["rejected"]) == ("run-7", [{"filename": "bad.png"}])
    assert data["assigned_cases"] == [str(read.pk)]
    assert (kept["blinded"], kept["assigned_to"]) == (True, "rita")
    assert kept["earlier_analyses"][0]["slide"] == str(slide.pk)
    assert "rita" in {row["actor"] for row in data["trail"]}, "who read one's cases"
