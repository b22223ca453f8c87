"""A person's data as a file, gone for good, gone in time; and everything backed up and checked."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import audit, services
from cases.accounts import tokens
from cases.images import deletion, intake
from cases.limits import housekeeping
from cases.models import AuditEvent, Case, PendingFileDeletion, Pseudonym, Review, Slide, User
from cases.services import cases, locking, privacy, retention
from inference.models import Analysis, ModelVersion, State, UserQueueState
from tests.factories import PASSWORD, CaseFactory, add_slide, upload
from tests.patching import patch_service

# Files go once the transaction is over.
pytestmark = pytest.mark.django_db(transaction=True)

As = Callable[[User], Client]


def stored(media: Path) -> list[Path]:
    return [path for path in media.rglob("*") if path.is_file()]


def test_the_export_holds_everything_of_one_person(slide: Slide, alice: User, charlie: User) -> None:
    CaseFactory(owner=charlie, title="Not Alice's")
    tokens.create(alice, "laboratory")
    services.sign_review(slide.case, alice, "benign", comment="quiet")
    out = io.BytesIO()
    privacy.write_export(alice, out)
    with zipfile.ZipFile(out) as archive:
        data = json.loads(archive.read("data.json"))
        assert sorted(archive.namelist()) == ["data.json", f"images/{slide.pk}.png"]
        with slide.file.open() as file:
            assert archive.read(f"images/{slide.pk}.png") == file.read()
    assert data["account"]["email"] == alice.email
    assert [case["title"] for case in data["cases"]] == [slide.case.title]
    assert data["readings"][0]["comment"] == "quiet"
    assert data["api_tokens"][0]["name"] == "laboratory"
    assert {row["kind"] for row in data["trail"]} >= {"added", "reviewed"}
    assert "Not Alice's" not in json.dumps(data)


def test_erasing_leaves_nothing_but_a_whole_chain(
    slide: Slide, alice: User, charlie: User, media: Path, as_user: As
) -> None:
    client = as_user(alice)
    client.get(reverse("cases:history"))
    tokens.create(alice, "laboratory")
    foreign = CaseFactory(owner=charlie)
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    services.sign_review(foreign, alice, "malignant")
    audit.add_checkpoint()
    privacy.erase(alice)
    audit.add_checkpoint()
    assert not User.objects.filter(username="alice").exists()
    assert not Slide.objects.exists() and not Analysis.objects.exists() and not stored(media)
    assert not tokens.ApiToken.objects.exists()
    assert client.get(reverse("cases:history")).status_code == 302
    assert Review.objects.get().author.username == privacy.NOBODY
    assert not Review.objects.get().author.is_active
    assert audit.verify() == []
    assert "alice" not in json.dumps(list(audit.rows(AuditEvent.objects.all())))


def test_a_person_downloads_and_deletes_their_data_on_a_page(
    slide: Slide, alice: User, media: Path, as_user: As
) -> None:
    client = as_user(alice)
    page = reverse("cases:data")
    assert client.get(page).status_code == 200
    answer = client.get(reverse("cases:data_export"))
    with zipfile.ZipFile(io.BytesIO(b"".join(answer))) as archive:
        assert "data.json" in archive.namelist()
    assert answer["Cache-Control"] == "private, no-store"
    assert client.post(page, {"password": "wrong wrong wrong"}).status_code == 400
    assert User.objects.filter(pk=alice.pk).exists()
    assert client.post(page, {"password": PASSWORD}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists() and not stored(media)


def test_the_last_administrator_can_not_erase_themselves(db: None, as_user: As) -> None:
    admin = User.objects.create_superuser("root", password=PASSWORD)
    assert as_user(admin).post(reverse("cases:data"), {"password": PASSWORD}).status_code == 400
    assert User.objects.filter(pk=admin.pk).exists()


def test_old_cases_go_when_their_time_is_over(slide: Slide, alice: User, media: Path, settings: Any) -> None:
    young = CaseFactory(owner=alice)
    Case.objects.filter(pk=slide.case_id).update(updated_at=timezone.now() - timedelta(days=31), open_count=0)
    assert retention.purge()["cases"] == 0, "kept for ever unless told otherwise"
    settings.RETENTION_DAYS = 30
    assert retention.purge()["cases"] == 1
    assert list(Case.objects.all()) == [young] and not stored(media)


def test_a_store_of_another_database_is_left_alone(slide: Slide, media: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database's disk was lost and it begins anew, or a worker on trial was given the store of the real one."""
    for path in stored(media):
        long_ago = time.time() - 2 * retention.ABANDONED
        os.utime(media / path, (long_ago, long_ago))
    Slide.objects.all().delete()
    assert retention.purge()["files"] == 0 and len(stored(media)) == 2
    assert "2 files of the store belong to no slide, 0 do" in caplog.text
    call_command("purge", "--all-files", stdout=io.StringIO())
    assert not stored(media)


def test_what_was_left_behind_goes(slide: Slide, media: Path, settings: Any, tmp_path: Path) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path
    old = tmp_path / "tmpold.upload"
    old.write_bytes(b"x")
    (tmp_path / "young").write_bytes(b"x")
    name = default_storage.save("slides/aa/orphan.png", ContentFile(b"x"))
    long_ago = timezone.now().timestamp() - 2 * retention.ABANDONED
    for path in (old, Path(default_storage.path(name))):
        os.utime(path, (long_ago, long_ago))
    counted = retention.purge()
    assert (counted["files"], counted["uploads"]) == (1, 1)
    assert len(stored(media)) == 2 and not old.exists() and (tmp_path / "young").exists()


def test_what_can_not_be_deleted_stops_no_purge(
    slide: Slide, client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    default_storage.save("slides/aa/1.png", ContentFile(b"x"))
    default_storage.save("slides/aa/2.png", ContentFile(b"x"))
    client.force_login(alice)
    Session.objects.update(expire_date=timezone.now() - timedelta(days=1))
    # Noted by a worker just after the account went.
    UserQueueState.objects.create(person=alice.pk + 1000)
    times, delete = FileSystemStorage.get_modified_time, FileSystemStorage.delete

    def long_ago(storage: FileSystemStorage, name: str) -> Any:
        return times(storage, name) - 2 * timedelta(seconds=retention.ABANDONED)

    def fail(storage: FileSystemStorage, name: str) -> None:
        if name.endswith("1.png"):
            raise PermissionError(errno.EACCES, "Permission denied")
        delete(storage, name)

    monkeypatch.setattr(FileSystemStorage, "get_modified_time", long_ago)
    monkeypatch.setattr(FileSystemStorage, "delete", fail)
    assert retention.purge()["files"] == 1
    assert default_storage.exists("slides/aa/1.png") and not default_storage.exists("slides/aa/2.png")
    assert not Session.objects.exists()
    assert set(UserQueueState.objects.values_list("person", flat=True)) <= {UserQueueState.ALL, alice.pk}


@pytest.mark.parametrize("failing", ["a moment", "long"])
def test_files_that_a_failing_store_kept_go_later(
    failing: str, alice: User, case: Case, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = add_slide(CaseFactory(owner=alice))
    for _ in range(12):
        add_slide(case)
    delete, asked = FileSystemStorage.delete, []

    def fail(storage: FileSystemStorage, name: str) -> None:
        asked.append(name)
        if failing == "long" or len(asked) == 5:
            raise OSError(errno.EIO, "Input/output error")
        delete(storage, name)

    monkeypatch.setattr(FileSystemStorage, "delete", fail)
    services.remove_case(case, alice)
    assert not Case.objects.filter(pk=case.pk).exists()
    left = len(stored(media)) - 2
    assert left == 24 if failing == "long" else left == 1
    assert deletion.again() == 0, "just asked for"
    PendingFileDeletion.objects.update(asked_at=timezone.now() - timedelta(minutes=6))
    if failing == "long":
        assert deletion.again() == 0
        said = StringIO()
        with pytest.raises(CommandError):
            call_command("verify", stderr=said)
        assert "files could not be deleted yet" in said.getvalue()
    monkeypatch.undo()
    PendingFileDeletion.objects.update(asked_at=timezone.now() - timedelta(minutes=6))
    deletion.again()
    assert sorted(path.name for path in stored(media)) == sorted(
        Path(name).name for name in (other.file.name, other.thumbnail.name)
    )
    assert not PendingFileDeletion.objects.exists()


def test_a_file_that_can_not_be_deleted_holds_up_no_other(
    alice: User, case: Case, media: Path, model: ModelVersion
) -> None:
    first = add_slide(case)
    for _ in range(7):
        add_slide(case)
    stuck = media / str(first.file.name)
    stuck.unlink()
    (stuck / "within").mkdir(parents=True)
    services.remove_case(case, alice)
    assert not stored(media)
    for _ in range(2):
        PendingFileDeletion.objects.update(asked_at=timezone.now() - timedelta(minutes=6))
        deletion.again()
    assert [row.name for row in PendingFileDeletion.objects.all()] == [first.file.name]


def test_ended_sessions_are_cleared(client: Client, alice: User) -> None:
    client.force_login(alice)
    Session.objects.update(expire_date=timezone.now() - timedelta(days=1))
    retention.purge()
    assert not Session.objects.exists()


@pytest.fixture
def real_model(settings: Any, random_checkpoint: Path, transactional_db: None, tmp_path: Path) -> ModelVersion:
    from inference.registry import activate, add

    ModelVersion.objects.all().delete()
    settings.MODEL_DIR = tmp_path / "models"
    settings.MODEL_DIR.mkdir()
    shutil.copyfile(random_checkpoint, settings.MODEL_DIR / "random.safetensors")
    model = add(settings.MODEL_DIR / "random.safetensors")
    activate(model)
    return model


def test_verify_names_what_is_wrong(alice: User, media: Path, real_model: ModelVersion) -> None:
    case = CaseFactory(owner=alice)
    whole, changed, missing = (add_slide(case, name) for name in ("a.png", "b.png", "c.png"))
    out, said = StringIO(), StringIO()
    call_command("verify", stdout=out, stderr=out)
    assert "3 slides" in out.getvalue()
    with changed.file.storage.open(changed.file.name, "ab") as file:
        file.write(b"x")
    missing.file.storage.delete(missing.file.name)
    Path(real_model.path).write_bytes(b"x")
    with pytest.raises(CommandError):
        call_command("verify", stderr=said)
    assert str(changed.pk) in said.getvalue() and str(missing.pk) in said.getvalue()
    assert "Model" in said.getvalue() and str(whole.pk) not in said.getvalue()


def test_verify_names_a_case_that_says_other_than_its_analyses_and_mends_it(alice: User, slide: Slide) -> None:
    case = slide.case
    right = Case.objects.values().get(pk=case.pk)
    Case.objects.filter(pk=case.pk).update(open_count=7, verdict="malignant", probability=0.9)
    said = StringIO()
    with pytest.raises(CommandError):
        call_command("verify", stderr=said)
    assert str(case.pk) in said.getvalue()
    with pytest.raises(CommandError, match="Problems found: 1"):  # the model of this test has no file
        call_command("verify", "--mend", stdout=said, stderr=StringIO())
    assert "1 case results corrected" in said.getvalue()
    assert Case.objects.values().get(pk=case.pk) == right | {"updated_at": Case.objects.get().updated_at}
    assert (
        AuditEvent.objects.filter(case=case, kind=AuditEvent.Kind.ANALYSED, detail="no result, recalculated").count()
        == 1
    )
    assert audit.verify() == []


def test_a_case_opened_while_its_owner_is_erased_goes_with_its_files(
    alice: User, slide: Slide, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = services.remove_case

    def meanwhile(case: Case, actor: User | None) -> None:
        remove(case, actor)
        if case.pk == slide.case_id:
            add_slide(CaseFactory(owner=alice, title="Opened meanwhile"))

    patch_service(monkeypatch, "remove_case", meanwhile)
    privacy.erase(alice)
    assert not Case.objects.exists() and not stored(media)
    assert not AuditEvent.objects.filter(detail__contains="meanwhile").exists()


def test_verify_says_nothing_of_what_is_deleted_while_it_looks(
    alice: User, media: Path, real_model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = add_slide(CaseFactory(owner=alice))
    opened = default_storage.open

    def gone(name: str, mode: str = "rb") -> Any:
        if Slide.objects.filter(pk=slide.pk).exists():
            services.remove_slide(slide, alice)
        return opened(name, mode)

    monkeypatch.setattr(default_storage, "open", gone)
    call_command("verify", stdout=StringIO())


def test_a_purge_goes_on_where_others_delete_too(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("slides/aa/1.png", "slides/aa/2.png"):
        default_storage.save(name, ContentFile(b"x"))
        old = time.time() - 2 * retention.ABANDONED
        os.utime(media / name, (old, old))
    times = default_storage.get_modified_time

    def gone(name: str) -> Any:
        (media / "slides/aa/1.png").unlink(missing_ok=True)
        return times(name)

    monkeypatch.setattr(default_storage, "get_modified_time", gone)
    retention.purge(all_files=True)
    assert not stored(media)


def test_a_slide_whose_commit_was_not_acknowledged_keeps_its_file(
    alice: User, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse = services.analyse

    def and_then_silence(*args: Any, **kwargs: Any) -> Any:
        transaction.on_commit(lost)
        return analyse(*args, **kwargs)

    def lost() -> None:
        raise OperationalError("the connection went away after COMMIT")

    patch_service(monkeypatch, "analyse", and_then_silence)
    with pytest.raises(OperationalError):
        services.add_slides(CaseFactory(owner=alice), [upload()])
    slide = Slide.objects.get()
    assert slide.file.storage.exists(slide.file.name) and slide.thumbnail.storage.exists(slide.thumbnail.name)


def test_a_slide_added_while_its_case_goes_leaves_no_file(
    alice: User, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CaseFactory(owner=alice)
    add_slide(case)
    lock = locking.lock_case

    def and_meanwhile(*args: Any, **kwargs: Any) -> None:
        if Slide.objects.count() == 1:
            monkeypatch.setattr(cases, "lock_case", lock)
            add_slide(case)
        lock(*args, **kwargs)

    monkeypatch.setattr(cases, "lock_case", and_meanwhile)
    services.remove_case(case, alice)
    assert not stored(media)


@pytest.mark.parametrize("address", ["cases:add_slides", "api:case-slides"])
def test_an_upload_to_a_case_that_goes_meanwhile_is_a_conflict(
    address: str, alice: User, media: Path, model: ModelVersion, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CaseFactory(owner=alice)
    store = intake.store

    def and_meanwhile(found: Case, *args: Any) -> Slide:
        if Case.objects.filter(pk=found.pk).exists():
            services.remove_case(Case.objects.get(pk=found.pk), alice)
        return store(found, *args)

    monkeypatch.setattr(intake, "store", and_meanwhile)
    client = as_user(alice)
    client.raise_request_exception = False
    files = {"files" if address.startswith("api") else "images": [upload()]}
    assert client.post(reverse(address, args=[case.pk]), files).status_code == 409
    assert not stored(media)


def test_a_purge_that_could_not_be_asked_for_is_asked_for_again(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def ask(*task: Any, **options: Any) -> None:
        asked.append(task)
        if len(asked) == 1:
            raise ConnectionError("the broker is away")

    cache.clear()
    monkeypatch.setattr(housekeeping, "async_task", ask)
    with pytest.raises(ConnectionError):
        retention.housekeeping(None)
    retention.housekeeping(None)
    retention.housekeeping(None)
    assert asked == [("cases.services.retention.purge",)] * 2
    cache.clear()


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
    audit.add_checkpoint()
    privacy.erase(User.objects.get(pk=reviewer.pk))
    audit.add_checkpoint()
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


Kind = AuditEvent.Kind


def finish() -> None:
    Analysis.objects.update(state=State.DONE, verdict="benign", probability=0.1, finished_at=timezone.now())


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
