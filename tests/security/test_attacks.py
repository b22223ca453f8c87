"""What somebody with an account, or without one, might try beyond the addresses' permissions."""

from __future__ import annotations

import csv
import io
import json
import logging
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import audit, services
from cases.accounts import tokens
from cases.images import intake, sandbox, tiles
from cases.limits.concurrency import ConcurrencySlot, Kind
from cases.limits.quotas import CapacityExceeded
from cases.models import AuditEvent, Case, Pseudonym, Review, Slide, User
from cases.reporting import pdf
from cases.services import backups, export, privacy
from inference.models import Analysis, ModelVersion, State
from tests.factories import PASSWORD, CaseFactory, UserFactory, upload

from .test_uploads import bomb

As = Callable[[User], Client]


def viewed(user: User) -> list[str]:
    events = AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED, actor__user=user)
    return list(events.order_by("pk").values_list("detail", flat=True))


# Reading without leaving a trace


@pytest.mark.parametrize("name", ["cases:map", "cases:activation", "cases:patch"])
def test_parts_of_a_slide_asked_for_without_its_page_are_noted(
    name: str, as_user: As, reviewer: User, finished: Slide
) -> None:
    client = as_user(reviewer)
    path = reverse(name, args=[finished.pk, 0] if name == "cases:patch" else [finished.pk])
    for _ in range(3):
        assert client.get(path).status_code == 200
    assert len(viewed(reviewer)) == 1, "noted, but not once more for each part"


def test_parts_of_a_page_that_was_noted_are_not_noted_again(as_user: As, reviewer: User, finished: Slide) -> None:
    client = as_user(reviewer)
    client.get(reverse("cases:slide", args=[finished.pk]))
    client.get(reverse("cases:patch", args=[finished.pk, 0]))
    client.get(reverse("cases:map", args=[finished.pk]))
    assert viewed(reviewer) == ["Slide"]


@pytest.mark.parametrize("model", ["case", "slide"])
def test_reading_in_the_administration_is_noted(model: str, as_user: As, reviewer: User, slide: Slide) -> None:
    pk = slide.case_id if model == "case" else slide.pk
    assert as_user(reviewer).get(reverse(f"admin:cases_{model}_change", args=[pk])).status_code == 200
    event = AuditEvent.objects.get(kind=AuditEvent.Kind.VIEWED)
    assert event.case_id == slide.case_id


@pytest.mark.parametrize("name", ["api:cases", "api:analyses"])
def test_others_cases_in_a_list_of_the_api_are_noted(name: str, as_user: As, reviewer: User, slide: Slide) -> None:
    CaseFactory(owner=reviewer)
    assert as_user(reviewer).get(reverse(name)).status_code == 200
    assert list(AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED).values_list("case", flat=True)) == [
        slide.case_id
    ]
    as_user(slide.case.owner).get(reverse(name))
    assert viewed(slide.case.owner) == [], "a list of one's own is no look at a case"


# Seeing the other's reading in a blinded case


@pytest.fixture
def blinded(case: Case, alice: User) -> Case:
    case.is_blinded = True
    case.save()
    services.sign_review(case, UserFactory(username="second", is_superuser=True), "malignant", comment="SECRET-READING")
    return case


def test_an_owner_can_not_lift_the_blinding_to_look(blinded: Case, as_user: As, alice: User) -> None:
    client = as_user(alice)
    form = {"title": blinded.title, "magnification": "unknown", "overlap": "0.0"}
    assert client.post(reverse("cases:edit", args=[blinded.pk]), form).status_code == 400
    assert b"SECRET-READING" not in client.get(reverse("cases:case", args=[blinded.pk])).content
    services.sign_review(blinded, alice, "benign")
    assert client.post(reverse("cases:edit", args=[blinded.pk]), form).status_code == 302


def test_a_reviewer_can_not_lift_it_in_the_administration(blinded: Case, as_user: As, reviewer: User) -> None:
    client = as_user(reviewer)
    path = reverse("admin:cases_case_change", args=[blinded.pk])
    page = client.get(path)
    form = {
        f"{formset.formset.prefix}-{name}": value
        for formset in page.context["inline_admin_formsets"]
        for name, value in formset.formset.management_form.initial.items()
    }
    client.post(path, {**form, "assigned_to": "", "_save": "Save"})
    blinded.refresh_from_db()
    assert blinded.is_blinded
    assert b"SECRET-READING" not in client.get(path).content


def test_no_way_of_reading_a_blinded_case_shows_the_other_reading(
    blinded: Case, as_user: As, alice: User, reviewer: User
) -> None:
    for user in (alice, reviewer):
        client = as_user(user)
        for path in (
            reverse("cases:case", args=[blinded.pk]),
            reverse("cases:export", args=[blinded.pk, "json"]),
            reverse("cases:export", args=[blinded.pk, "csv"]),
            reverse("cases:trail", args=[blinded.pk]),
            reverse("cases:trail_export", args=[blinded.pk, "json"]),
            reverse("cases:export_history", args=["json"]),
            reverse("cases:history"),
            reverse("api:case", args=[blinded.pk]),
            reverse("api:case-reviews", args=[blinded.pk]),
            reverse("admin:cases_review_changelist"),
            reverse("admin:cases_case_changelist") + "?reviews__reading=malignant",
        ):
            content = client.get(path).content
            assert b"SECRET-READING" not in content, path
            if path.startswith("/admin/cases/case"):
                assert blinded.title.encode() not in content, "a filter may not tell what is hidden"


# Accounts


def test_nobody_can_take_the_name_under_which_erased_peoples_readings_stand(
    client: Client, db: None, alice: User, charlie: User
) -> None:
    cache.clear()
    form = {"username": privacy.NOBODY, "email": "eve@example.org", "password1": PASSWORD, "password2": PASSWORD}
    client.post(reverse("account_signup"), form)
    assert not User.objects.filter(username=privacy.NOBODY).exists()

    squatter = UserFactory(username=privacy.NOBODY)
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    services.sign_review(CaseFactory(owner=charlie), alice, "benign", comment="private words")
    privacy.erase(alice)
    assert not Review.objects.filter(author=squatter, author__is_active=True).exists()


def test_no_name_is_left_of_who_was_erased(
    case: Case, alice: User, reviewer: User, as_user: As, admin_user: User
) -> None:
    services.assign(case, reviewer, alice)
    User.objects.filter(pk=reviewer.pk).update(username="rita-until-she-married")
    services.assign(case, User.objects.get(pk=reviewer.pk), alice)
    form = {"username": "rita", "theme": "dark", "time_zone": "UTC", "default_magnification": "unknown"}
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "10:00:00"}
    as_user(admin_user).post(reverse("admin:cases_user_change", args=[reviewer.pk]), {**form, **joined})
    assert LogEntry.objects.filter(object_repr="rita").exists()
    audit.seal()
    privacy.erase(User.objects.get(pk=reviewer.pk))
    audit.seal()
    assert "rita" not in json.dumps(list(audit.rows(AuditEvent.objects.all())))
    assert not LogEntry.objects.filter(object_repr__contains="rita").exists()
    assert audit.verify() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["one", "many"])
def test_an_administrator_who_deletes_a_person_erases_them(
    way: str, slide: Slide, alice: User, as_user: As, media: Path
) -> None:
    admin = as_user(User.objects.create_superuser("root", password=PASSWORD))
    services.record(slide.case, AuditEvent.Kind.ADDED, alice, "A name in a file's name")
    if way == "one":
        admin.post(reverse("admin:cases_user_delete", args=[alice.pk]), {"post": "yes"})
    else:
        everybody = list(User.objects.values_list("pk", flat=True))
        chosen = {"action": "delete_selected", "_selected_action": everybody, "post": "yes"}
        admin.post(reverse("admin:cases_user_changelist"), chosen)
    assert User.objects.filter(username="root").exists(), "but never themselves"
    assert not User.objects.filter(pk=alice.pk).exists()
    assert not [path for path in media.rglob("*") if path.is_file()]
    assert not AuditEvent.objects.filter(case=slide.case_id).exclude(detail="").exists()
    assert not Pseudonym.objects.filter(user=alice.pk).exists()


def test_a_reviewer_that_is_none_changes_nothing(case: Case, as_user: As, reviewer: User) -> None:
    services.assign(case, reviewer, reviewer)
    form = {"action": "assign", "_selected_action": [str(case.pk)], "reviewer": "x"}
    assert as_user(reviewer).post(reverse("admin:cases_case_changelist"), form).status_code == 302
    case.refresh_from_db()
    assert case.assigned_to == reviewer


def test_a_session_alone_changes_no_address(alice: User, as_user: As) -> None:
    """From another address the password can be set anew."""
    client = as_user(alice)
    answer = client.post(reverse("account_email"), {"action_add": "", "email": "thief@example.org"})
    assert answer.status_code == 302 and "/reauthenticate/" in answer["Location"]
    assert not EmailAddress.objects.filter(email="thief@example.org").exists()


def test_a_new_password_ends_the_tokens(alice: User, as_user: As) -> None:
    """A thief of the old password may have made one."""
    _, plain = tokens.create(alice, "thief's")
    new = "a quite different battery"
    as_user(alice).post(
        reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new}
    )
    assert Client(headers={"Authorization": f"Token {plain}"}).get(reverse("api:me")).status_code == 401


def test_counters_of_failed_attempts_are_not_pushed_out(tmp_path: Path) -> None:
    """The default cache is a folder; as Django sets it up, 300 entries are its end, and then a third goes at random."""
    from django.core.cache.backends.filebased import FileBasedCache

    from histopath import settings as production

    found = production.CACHES["default"]
    kept = FileBasedCache(str(tmp_path), {"OPTIONS": found.get("OPTIONS", {})})
    kept.set("failed", 5)
    for n in range(400):
        kept.set(f"other{n}", 1)
    assert all(kept.get(f"other{n}") for n in range(400)) and kept.get("failed") == 5


# Exhaustion


def test_who_is_not_signed_in_can_not_fill_the_disk(client: Client, db: None) -> None:
    """Django reads a form with its files before any view asks who sends it."""
    answer = client.post(reverse("account_login"), {"login": "x", "large": SimpleUploadedFile("x", bytes(5_000_000))})
    assert answer.status_code == 200
    assert answer.wsgi_request.FILES["large"].size == 0


def test_an_upload_that_does_not_fit_is_refused_before_it_is_written(
    as_user: As, alice: User, case: Case, settings: Any
) -> None:
    settings.MIN_FREE_DISK = 2**62
    client = as_user(alice)
    client.raise_request_exception = False
    answer = client.post(reverse("cases:add_slides", args=[case.pk]), {"images": [upload("a.png", bytes(4_000_000))]})
    assert answer.status_code == 503


def test_so_is_one_of_a_program(alice: User, case: Case, model: ModelVersion, settings: Any) -> None:
    settings.MIN_FREE_DISK = 2**62
    _, plain = tokens.create(alice, "script")
    client = Client(headers={"Authorization": f"Token {plain}"}, raise_request_exception=False)
    answer = client.post(reverse("api:case-slides", args=[case.pk]), {"files": [upload("a.png", bytes(4_000_000))]})
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")


def test_an_export_of_ones_data_asks_for_room_file_by_file(
    alice: User, slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(privacy, "require_space", asked.append)
    privacy.write_export(alice, io.BytesIO())
    assert asked == [slide.file.size]


def test_an_export_of_ones_data_leaves_the_reserve_alone(as_user: As, alice: User, slide: Slide, settings: Any) -> None:
    settings.MIN_FREE_DISK = 2**62
    client = as_user(alice)
    client.raise_request_exception = False
    assert client.get(reverse("cases:data_export")).status_code == 503


def test_a_busy_decoder_is_said_and_not_waited_for_without_end(
    as_user: As, alice: User, finished: Slide, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DECODER_CONCURRENCY = 1
    monkeypatch.setattr(sandbox, "PATIENCE", 0.05)
    monkeypatch.setattr(sandbox, "VIEWER_PATIENCE", 0.05)
    with sandbox._turn(None, 1):
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


def test_who_sends_images_that_hang_the_decoder_leaves_one_to_others(
    case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.clear()
    monkeypatch.setattr(intake, "HEAVY_PATIENCE", 0.05)
    settings.DECODER_SECONDS = 1
    _, (problem,) = services.add_slides(case, [upload("slow.png", bomb(12_200))])
    assert "too long" in problem.reason
    settings.DECODER_SECONDS = 60
    with intake._heavy:
        with pytest.raises(CapacityExceeded):  # no second decoder at once
            services.add_slides(case, [upload()])
        slides, _ = services.add_slides(CaseFactory(owner=charlie), [upload()])
        assert slides
    slides, _ = services.add_slides(case, [upload()])
    assert slides
    cache.clear()


def test_nobody_takes_all_decoders(alice: User, charlie: User, settings: Any) -> None:
    settings.DECODER_CONCURRENCY = 2
    with sandbox._turn(alice.pk, 0.05):
        with pytest.raises(sandbox.DecoderBusy), sandbox._turn(alice.pk, 0.05):
            pass
        with sandbox._turn(charlie.pk, 0.05), pytest.raises(sandbox.DecoderBusy), sandbox._turn(None, 0.05):
            pass
    with sandbox._turn(alice.pk, 0.05):
        pass


@pytest.mark.parametrize("threads", [4, 8, 16])
@pytest.mark.parametrize("kind", Kind)
def test_nobody_takes_all_there_is_of_a_kind(
    kind: Kind, threads: int, alice: User, charlie: User, settings: Any
) -> None:
    settings.WEB_THREADS = threads
    with ExitStack() as held:
        own = sum(held.enter_context(ConcurrencySlot(alice, kind)).taken for _ in range(threads))
        assert own >= 1
        with ConcurrencySlot(charlie, kind) as turn:
            assert turn.taken or kind.most == 1


def test_reports_take_a_quarter_of_the_threads_at_most(
    as_user: As, alice: User, charlie: User, case: Case, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEB_THREADS = 4
    monkeypatch.setattr(pdf, "PATIENCE", 0.05)
    client = as_user(alice)
    with ConcurrencySlot(charlie, Kind.REPORT):
        for name in ("cases:report", "api:case-report"):
            answer = client.get(reverse(name, args=[case.pk]))
            assert answer.status_code == 429 and answer["Retry-After"], name
    assert client.get(reverse("cases:report", args=[case.pk])).status_code == 200


def test_one_person_may_not_hold_all_threads(
    as_user: As, alice: User, charlie: User, case: Case, model: ModelVersion, media: Path, settings: Any
) -> None:
    settings.WEB_THREADS = 16
    with ExitStack() as held:
        kinds = [Kind.WAIT] * 7 + [Kind.REPORT] * 3 + [Kind.UPLOAD] * 5  # of each what fits in the 12
        taken = [held.enter_context(ConcurrencySlot(alice, kind)).taken for kind in kinds]
        assert taken == [True] * 6 + [False] + [True] * 2 + [False] + [True] * 4 + [False]
        with pytest.raises(CapacityExceeded):
            services.add_slides(case, [upload()])
        client = as_user(alice)
        for answer in (client.get(reverse("cases:data_export")), client.post(reverse("cases:try"))):
            assert answer.status_code == 429 and answer["Retry-After"]
        assert not Case.objects.filter(is_synthetic=True).exists()
        assert services.add_slides(CaseFactory(owner=charlie), [upload()])[0]
    assert services.add_slides(case, [upload()])[0]


def test_a_download_of_ones_data_holds_its_turn_until_it_is_read(
    as_user: As, alice: User, slide: Slide, settings: Any
) -> None:
    settings.WEB_THREADS = 16
    client = as_user(alice)
    first, second = (client.get(reverse("cases:data_export")) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert client.get(reverse("cases:data_export")).status_code == 429
    assert b"".join(first) and b"".join(second)
    assert b"".join(client.get(reverse("cases:data_export")))


def test_long_work_of_many_leaves_threads_for_pages(alice: User, charlie: User, settings: Any) -> None:
    settings.WEB_THREADS = 16
    kinds = [Kind.WAIT, Kind.UPLOAD, Kind.PICTURE]
    with ExitStack() as held:
        taken = [
            held.enter_context(ConcurrencySlot(person, kind)).taken
            for kind in kinds
            for person in (alice, charlie)
            for _ in range(kind.own)
        ]
        assert sum(taken) == 14
        with ConcurrencySlot(UserFactory(), Kind.REPORT) as none:
            assert not none.taken
    with ConcurrencySlot(UserFactory(), Kind.REPORT) as turn:
        assert turn.taken


def test_pictures_that_are_made_leave_threads_for_pages(
    as_user: As, alice: User, charlie: User, finished: Slide, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEB_THREADS = 4
    monkeypatch.setattr(tiles, "PATIENCE", 0.05)
    client = as_user(alice)
    paths = [reverse("cases:tiles", args=[finished.pk]), reverse("cases:patch", args=[finished.pk, 0])]
    with ConcurrencySlot(charlie, Kind.PICTURE), ConcurrencySlot(UserFactory(), Kind.PICTURE):
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 429 and answer["Retry-After"], path
    for path in paths:
        assert client.get(path).status_code == 200
    with ConcurrencySlot(charlie, Kind.PICTURE), ConcurrencySlot(UserFactory(), Kind.PICTURE):
        assert client.get(paths[0]).status_code == 200, "what is made already needs no turn"


def test_uploads_of_many_leave_threads_for_pages(
    case: Case, charlie: User, media: Path, model: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "PATIENCE", 0.05)
    settings.WEB_THREADS = 4
    with ExitStack() as held:
        assert [held.enter_context(ConcurrencySlot(UserFactory(), Kind.UPLOAD)).taken for _ in range(3)] == [
            True,
            True,
            False,
        ]
        with pytest.raises(CapacityExceeded):
            services.add_slides(case, [upload()])
    assert services.add_slides(case, [upload()])[0]


def test_two_uploads_at_once_keep_the_limit(
    case: Case, media: Path, model: ModelVersion, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_PENDING_PER_USER = 3
    store = intake.store

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(intake, "store", store)
        services.add_slides(CaseFactory(owner=case.owner), [upload("a.png"), upload("b.png")])
        return store(*args)

    monkeypatch.setattr(intake, "store", meanwhile)
    slides, rejected = services.add_slides(case, [upload("1.png"), upload("2.png")])
    assert (len(slides), [problem.code for problem in rejected]) == (1, ["busy"])


# Input that breaks


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_dates_at_the_ends_of_time(zone: str, as_user: As, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone=zone)
    client = as_user(alice)
    for day in ("0001-01-01", "9999-12-31"):
        assert client.get(reverse("cases:history"), {"since": day, "until": day}).status_code == 200
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        for name in ("created_after", "created_before"):
            assert client.get(reverse("api:cases"), {name: moment}).status_code in (200, 400)


def test_zero_bytes_in_addresses(as_user: As, alice: User, case: Case) -> None:
    client = as_user(alice)
    for path in ("/cases/?q=%00", "/cases/?tag=%00", "/cases/?model=%00", "/cases/?page=%00", "/statistics/?x=%00"):
        assert client.get(path).status_code == 200, path
    for path in ("/api/v1/cases?q=%00", "/api/v1/cases?patient=%00", "/api/v1/cases?tag=%00", "/api/v1/cases?page=%00"):
        assert client.get(path).status_code in (200, 400, 404), path
    answer = client.post("/api/v1/cases", json.dumps({"title": "a\0b"}), content_type="application/json")
    assert answer.status_code == 400


def test_a_search_for_very_many_words(as_user: As, alice: User, case: Case) -> None:
    client = as_user(alice)
    words = " ".join("abcdefghij" * 5)
    for path in (reverse("cases:history"), reverse("api:cases")):
        assert client.get(path, {"q": words}).status_code == 200, path
        assert client.get(path, {"q": words * 100}).status_code in (200, 400), path


@pytest.mark.parametrize("name", ["api:sign-in", "api:cases", "api:tokens"])
def test_a_large_body_that_is_no_upload_is_not_read(name: str, as_user: As, alice: User) -> None:
    body = json.dumps({"title": "x" * 3_000_000})
    answer = as_user(alice).post(reverse(name), body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_json_that_is_nested_very_deep(as_user: As, alice: User) -> None:
    answer = as_user(alice).post(reverse("api:cases"), "[" * 200_000, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_forged_address_does_not_reset_the_apis_throttle(db: None, settings: Any) -> None:
    cache.clear()
    body = json.dumps({"username": "x", "password": "wrong"})
    found = [
        Client(headers={"X-Forwarded-For": f"192.0.2.{n}"})
        .post(reverse("api:sign-in"), body.replace("x", f"person{n}"), content_type="application/json")
        .status_code
        for n in range(12)
    ]
    assert found[0] == 401 and found[-1] == 429
    cache.clear()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_of_an_export_is_a_formula(start: str, alice: User) -> None:
    case = CaseFactory(owner=alice, title=f"{start}cmd|' /C calc'!A0", patient=f"{start}1")
    out = io.StringIO()
    csv.writer(out).writerows(export.rows(export.with_everything(Case.objects.filter(pk=case.pk))))
    (line,) = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert line[1].startswith("'") and line[2].startswith("'")


def test_neither_is_what_follows_a_semicolon() -> None:
    assert export.safe_cell("a;=1+1;b") == "a;'=1+1;b"
    assert export.safe_cell("x; @SUM(A1)\t+2") == "x; '@SUM(A1)\t'+2"
    assert export.safe_cell("a\n=1") == "a\n'=1"
    assert export.safe_cell("5 µm; grade 2-3") == "5 µm; grade 2-3"
    assert export.safe_cell(-0.5) == -0.5


def test_a_line_of_the_log_can_not_be_forged(client: Client, db: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.get("/nothing%0A2026-01-01%20ERROR%20root%20forged")
        client.get("/api/v1/nothing%0AERROR%20root%20forged")
    assert caplog.records
    for record in caplog.records:
        if record.name != "django.db.backends":
            assert "\n" not in record.getMessage(), record.name


def test_a_probe_by_address_is_answered_whatever_the_host(client: Client, settings: Any, db: None) -> None:
    """Container engines and load balancers ask by address; the rest of the site keeps to ALLOWED_HOSTS."""
    settings.ALLOWED_HOSTS = ["example.org"]
    assert client.get("/health/live", headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/health", headers={"Host": "10.0.0.7:8000"}).status_code == 503
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api", headers={"Host": "evil.example"}).status_code == 400


# A backup from somebody else


def forged(path: Path, files: dict[str, bytes], unlisted: dict[str, bytes] | None = None) -> None:
    whole = {**files, **(unlisted or {})}
    manifest = {
        "format": backups.FORMAT,
        "version": "0",
        "made_at": "",
        "database": connection.vendor,
        "sha256": {name: sha256(content).hexdigest() for name, content in files.items()},
    }
    whole["models/good.safetensors"] = whole["media/good.png"] = b""
    whole[backups.MANIFEST] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in whole.items():
            entry = tarfile.TarInfo(name.replace("models/../", "", 1).replace("media/../", "", 1).lstrip("/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("name", ["models/../planted.py", "media/../planted.py", "/etc/planted", "other/planted"])
def test_a_backup_can_not_plant_files_elsewhere(
    name: str, tmp_path: Path, settings: Any, media: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODEL_DIR = tmp_path / "models"
    settings.MODEL_DIR.mkdir()
    monkeypatch.setattr(backups, "_load", lambda _: pytest.fail("nothing may be touched"))
    path = tmp_path / "backup.tar"
    forged(path, {name: b"planted", backups.DUMPS[connection.vendor]: b""})
    with pytest.raises(backups.BackupError):
        backups.restore(path)
    assert not (tmp_path / "planted.py").exists()


def test_a_database_without_a_checksum_is_not_loaded(
    tmp_path: Path, media: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_load", lambda _: pytest.fail("nothing may be touched"))
    path = tmp_path / "backup.tar"
    forged(path, {}, unlisted={backups.DUMPS[connection.vendor]: b""})
    with pytest.raises(backups.BackupError, match="no checksum"):
        backups.restore(path)


def test_idempotency_keys_are_ones_own(
    alice: User, charlie: User, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cases.api import submit as calls
    from inference.jobs import queue

    monkeypatch.setattr(queue, "worker_alive", lambda: True)
    options = calls.Options(0.0, "unknown")
    mine = calls.submit(alice, [upload()], options, is_folder=False, key="same")
    other = calls.submit(charlie, [upload()], options, is_folder=False, key="same")
    assert mine.case.pk != other.case.pk and other.case.owner == charlie and not other.replayed


def test_what_a_token_reads_is_kept_nowhere(alice: User, finished: Slide) -> None:
    _, plain = tokens.create(alice, "script")
    client = Client(headers={"Authorization": f"Token {plain}"})
    for path in (
        reverse("api:cases"),
        reverse("api:case", args=[finished.case_id]),
        reverse("api:slide-image", args=[finished.pk]),
        reverse("api:analyses"),
    ):
        answer = client.get(path)
        if answer.streaming:
            b"".join(answer)
        assert answer.status_code == 200 and "no-store" in answer["Cache-Control"], path


def test_a_message_that_somebody_else_put_into_the_queue_is_not_unpickled() -> None:
    from django_q.conf import Conf
    from django_q.core_signing import BadSignature, dumps
    from django_q.signing import PickleSerializer, SignedPackage

    class Planted:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    own = SignedPackage.dumps({"id": "1"})
    assert SignedPackage.loads(own) == {"id": "1"}
    forged = dumps(Planted(), key="another secret", salt=Conf.PREFIX, serializer=PickleSerializer)
    for message in (forged, own[:-3]):
        with pytest.raises(BadSignature):
            SignedPackage.loads(message)


@pytest.mark.django_db(transaction=True)
def test_a_slide_asked_for_by_many_at_once_is_analysed_once(slide: Slide, alice: User) -> None:
    """On PostgreSQL the transactions meet; SQLite lets one write at a time."""
    Analysis.objects.update(state=State.DONE, verdict="benign", probability=0.1, finished_at=timezone.now())
    together = threading.Barrier(6)

    def again(_: int) -> Any:
        try:
            together.wait()
            return services.request_again(slide.case, [slide], alice)[0].pk
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(again, range(6)))
    assert len(found) == 1
    assert Analysis.objects.get(slide=slide, is_current=True).pk in found


@pytest.mark.django_db(transaction=True)
def test_a_zero_byte_in_a_cookie_is_the_senders_mistake(client: Client) -> None:
    """Django undoes the quoting of cookies; PostgreSQL keeps no zero byte, and is not away for that."""
    client.raise_request_exception = False
    answer = client.get(reverse("account_login"), headers={"Cookie": 'sessionid="aaaaaaaaaa\\000b"'})
    assert answer.status_code in (200, 400)
