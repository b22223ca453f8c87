"""What a later read of the whole found open: retention, hidden readings, tokens, reads and changes without a trace."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.accounts import tokens
from cases.images import synthetic
from cases.management.commands import demo
from cases.models import AuditEvent, Case, Report, Slide, User
from cases.reporting import pdf
from cases.services import privacy
from histopath import logging as logs
from inference.models import Analysis, ModelVersion, State
from tests.factories import PASSWORD, UserFactory, add_slide

As = Callable[[User], Client]
Kind = AuditEvent.Kind


def finish() -> None:
    Analysis.objects.update(state=State.DONE, verdict="benign", probability=0.1, finished_at=timezone.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("used", ["added to", "read", "analysed again", "assigned"])
def test_a_case_that_is_used_is_not_past_its_retention(
    used: str, case: Case, slide: Slide, alice: User, reviewer: User, settings: Any
) -> None:
    finish()
    services.analyse(case, [])
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now() - timedelta(days=400))
    match used:
        case "added to":
            add_slide(case)
        case "read":
            services.sign_review(case, reviewer, "benign")
        case "analysed again":
            services.request_again(case, [slide], alice)
        case "assigned":
            services.assign(case, reviewer, alice)
    finish()
    Case.objects.filter(pk=case.pk).update(open_count=0)
    settings.RETENTION_DAYS = 365
    privacy.purge()
    assert Case.objects.filter(pk=case.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_what_time_deleted_nobody_deleted(case: Case, settings: Any) -> None:
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now() - timedelta(days=400))
    settings.RETENTION_DAYS = 365
    privacy.purge()
    assert AuditEvent.objects.get(case=case.pk, kind=Kind.DELETED).actor is None


def test_a_reports_number_tells_nothing_of_a_hidden_reading(case: Case, slide: Slide, reviewer: User) -> None:
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    case.refresh_from_db()
    before = pdf.content_checksum(case, reviewer)
    services.sign_review(case, reviewer, "malignant", comment="first opinion")
    assert pdf.content_checksum(case, reviewer) == before
    services.sign_review(case, case.owner, "benign")
    assert pdf.content_checksum(case, reviewer) != before


@pytest.mark.parametrize("how", ["administration", "command"])
def test_a_password_set_by_others_ends_the_tokens_too(
    how: str, root: User, alice: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = tokens.create(alice, "stolen")
    ask = Client(headers={"Authorization": f"Token {plain}"})
    assert ask.get("/api/v1/me").status_code == 200
    if how == "administration":
        new = {"password1": "another long word 77", "password2": "another long word 77", "usable_password": "true"}
        address = reverse("admin:auth_user_password_change", args=[alice.pk])
        assert as_user(root).post(address, new).status_code == 302
    else:
        monkeypatch.setattr("getpass.getpass", lambda **_: "another long word 77")
        call_command("changepassword", alice.username)
    assert ask.get("/api/v1/me").status_code == 401


def test_what_a_form_of_the_administration_shows_again_is_noted(case: Case, reviewer: User, as_user: As) -> None:
    answer = as_user(reviewer).post(reverse("admin:cases_case_change", args=[case.pk]), {"assigned_to": "999999"})
    assert answer.status_code == 200 and case.title in answer.content.decode()
    assert AuditEvent.objects.filter(case=case, kind=Kind.VIEWED, actor__user=reviewer).count() == 1


def test_every_printing_of_a_report_is_noted(case: Case, slide: Slide, reviewer: User, as_user: As) -> None:
    finish()
    for _ in range(3):
        assert as_user(reviewer).get(reverse("cases:report", args=[case.pk])).status_code == 200
    assert AuditEvent.objects.filter(case=case, detail="Report", actor__user=reviewer).count() == 3
    assert Report.objects.count() == 1


def test_a_list_of_readings_is_noted(case: Case, reviewer: User, as_user: As) -> None:
    services.sign_review(case, case.owner, "benign")
    assert as_user(reviewer).get(reverse("admin:cases_review_changelist")).status_code == 200
    assert AuditEvent.objects.filter(case=case, detail="List, in the administration", actor__user=reviewer).exists()


def test_what_the_administration_changes_stands_in_the_cases_own_trail(
    case: Case, model: ModelVersion, root: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = as_user(root)
    chosen = {"action": "mark_for_teaching", "_selected_action": [str(case.pk)]}
    client.post(reverse("admin:cases_case_changelist"), chosen)
    assert AuditEvent.objects.filter(case=case, kind=Kind.ADMIN, actor__user=root).count() == 1
    monkeypatch.setattr("inference.registry.verify", lambda *_: None)
    client.post(
        reverse("admin:inference_modelversion_changelist"), {"action": "activate", "_selected_action": [str(model.pk)]}
    )
    assert AuditEvent.objects.filter(kind=Kind.ADMIN, detail__contains=str(model.pk)).count() == 1


def test_who_deletes_a_person_is_not_shown_hidden_readings(case: Case, root: User, as_user: As) -> None:
    other = UserFactory(username="second", is_staff=True, is_superuser=True)
    Case.objects.filter(pk=case.pk).update(is_blinded=True)
    services.sign_review(case, other, "malignant", comment="first opinion")
    page = as_user(root).get(reverse("admin:cases_user_delete", args=[other.pk]))
    assert page.status_code == 200
    assert "Malignant" not in page.content.decode()


@pytest.mark.django_db(transaction=True)
def test_an_administrator_can_delete_a_case_and_its_title_goes_from_the_log(
    case: Case, slide: Slide, root: User, as_user: As
) -> None:
    finish()
    services.sign_review(case, root, "benign")
    client = as_user(root)
    chosen = {"action": "mark_for_teaching", "_selected_action": [str(case.pk)]}
    client.post(reverse("admin:cases_case_changelist"), chosen)
    assert LogEntry.objects.filter(object_repr__contains=case.title).exists()
    answer = client.post(reverse("admin:cases_case_delete", args=[case.pk]), {"post": "yes"})
    assert answer.status_code == 302
    assert not Case.objects.filter(pk=case.pk).exists()
    assert not LogEntry.objects.filter(object_repr__contains=case.title).exists()
    assert str(AuditEvent.objects.get(case=case.pk, kind=Kind.DELETED).actor) == "root"


@pytest.mark.django_db(transaction=True)
def test_the_browser_and_address_of_an_ended_session_are_forgotten(alice: User, client: Client) -> None:
    client.post("/accounts/login/", {"login": alice.username, "password": PASSWORD})
    client.get("/cases/")
    privacy.purge()
    assert UserSession.objects.filter(user=alice).count() == 1
    client.session.flush()
    privacy.purge()
    assert not UserSession.objects.filter(user=alice).exists()


def test_guessing_the_password_on_the_page_that_erases_is_counted(alice: User, as_user: As) -> None:
    client = as_user(alice)
    for _ in range(5):
        assert client.post(reverse("cases:data"), {"password": "wrong"}).status_code == 400
    assert AuditEvent.objects.filter(kind=Kind.REFUSED, actor__user=alice).count() == 5
    assert client.post(reverse("cases:data"), {"password": PASSWORD}).status_code == 400
    assert User.objects.filter(pk=alice.pk).exists()


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_trace_of_the_database_quotes_no_row(form: str, caplog: pytest.LogCaptureFixture, db: None) -> None:
    """PostgreSQL tells below an error which values it did not like."""
    taken = UserFactory(username="jane-doe").username
    try:
        with transaction.atomic():
            User.objects.create(username=taken)
    except IntegrityError:
        logging.getLogger("cases").exception("It failed.")
    made = dict(logs.configuration(form, "INFO")["formatters"][form])
    factory = {"histopath.logging.Plain": logs.Plain, "histopath.logging.Json": logs.Json}
    formatter = factory[made.pop("()")](made.pop("format"), **made)
    logs.Context().filter(caplog.records[-1])
    line = formatter.format(caplog.records[-1])
    assert "IntegrityError" in line and "User.objects.create" in line
    assert "jane-doe" not in line.replace('username="jane-doe"', "")


def test_only_what_the_database_quotes_is_cut() -> None:
    first = "psycopg.errors.UniqueViolation: duplicate key\nDETAIL:  Key (title)=(Jane\nDoe) already exists."
    between = "\n\nThe above exception was the direct cause of the following exception:\n\nTraceback:\n"
    said = logs.without_row(f"{first}{between}django.db.utils.{first}")
    assert "Jane" not in said and "Doe" not in said
    assert said.count("UniqueViolation") == 2 and between in said


def test_the_hashes_of_seals_are_logged_whatever_the_level() -> None:
    assert logs.configuration("json", "ERROR")["loggers"]["cases.audit"]["level"] == "INFO"


def test_samples_that_were_not_added_are_added_the_next_time(
    db: None, media: Path, model: ModelVersion, tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    UserFactory(username=demo.ACCOUNT)
    (tmp_path / "samples" / "a folder.png").mkdir(parents=True)
    for number in range(3):
        synthetic.draw(number, 420).save(tmp_path / "samples" / f"{number}.png")
    (tmp_path / "samples" / "._0.png").write_bytes(b"hidden")
    settings.MAX_PENDING = 2
    case = demo.Command()._open_case(tmp_path / "samples")
    assert "3 samples were not added: 3 images at once are too many" in capsys.readouterr().err
    settings.MAX_PENDING = 100
    for _ in range(2):
        assert demo.Command()._open_case(tmp_path / "samples") == case
        assert case.slides.count() == 3


def test_a_question_that_nobody_answers_is_a_no(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(""))
    with pytest.raises(CommandError, match="--yes"):
        call_command("restore", str(tmp_path / "backup.tar"))
