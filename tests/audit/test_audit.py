"""The audit trail is complete, detects changes, and stays valid when users are erased."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import audit, services
from cases.audit import access_log, log
from cases.models import AuditCheckpoint, AuditEvent, Case, Pseudonym, Slide, User
from tests.factories import PASSWORD
from tests.security.access import REVIEWERS_MAY, TABLE, Row

Kind = AuditEvent.Kind
As = Callable[[User], Client]


def kinds(**wanted: Any) -> list[str]:
    return list(AuditEvent.objects.filter(**wanted).order_by("pk").values_list("kind", flat=True))


@pytest.fixture
def sealed(case: Case, alice: User) -> AuditCheckpoint:
    for number in range(5):
        audit.record(Kind.VIEWED, case, alice, f"Look {number}")
    made = audit.add_checkpoint()
    assert made is not None and made.count == 5
    return made


#: Parts of a page whose reading is noted already, or which show nothing of a case.
PARTS = {
    "cases:progress", "cases:edit", "cases:delete", "cases:slide_delete",
    "cases:thumbnail",
}  # fmt: skip
#: Noted by the view itself, as more than a look.
NOTED = {"cases:export", "cases:trail_export", "cases:verify"}


def test_every_url_that_shows_a_case_is_recorded() -> None:
    reading = set()
    for name, rows in TABLE.items():
        for row in rows if isinstance(rows, tuple) else (rows,):
            if isinstance(row, Row) and row.method == "get" and row.target in ("case", "slide", "analysis", "report"):
                reading.add(name)
    noted = {name for name in access_log.VIEWS if not name.startswith("admin:")}
    assert reading - PARTS - NOTED == noted | set(access_log.PARTS)


def test_every_administration_page_with_clinical_data_is_recorded() -> None:
    clinical = {name for name in REVIEWERS_MAY if "modelversion" not in name}
    pages = {name for name in clinical if name.endswith(("_change", "_history"))}
    # Reports are visible only to users with more permissions than a reviewer.
    noted = {name for name in access_log.VIEWS if name.startswith("admin:") and "report" not in name}
    assert pages == {name for name in noted if not name.endswith("_delete")}
    assert {name for name in clinical if name.endswith("_changelist")} == {
        n for n in access_log.LISTS if "report" not in n
    }


def test_a_view_is_recorded_with_user_and_address(as_user: As, alice: User, reviewer: User, slide: Slide) -> None:
    as_user(reviewer).get(reverse("cases:slide", args=[slide.pk]), REMOTE_ADDR="192.0.2.7")
    event = AuditEvent.objects.filter(kind=Kind.VIEWED).select_related("actor__user", "address").get()
    assert event.case_id == slide.case_id and event.about == slide.pk
    assert event.actor is not None and event.actor.user == reviewer
    assert event.address is not None and event.address.address == "192.0.2.7"


def test_a_view_under_another_spelling_of_the_id_is_recorded(as_user: As, reviewer: User, case: Case) -> None:
    address = reverse("admin:cases_case_change", args=[f"urn_3Auuid_3A{case.pk.hex}"])
    assert as_user(reviewer).get(address).status_code == 200
    assert AuditEvent.objects.get(kind=Kind.VIEWED).case_id == case.pk


def test_a_refused_view_is_not_recorded(as_user: As, charlie: User, case: Case) -> None:
    assert as_user(charlie).get(reverse("cases:case", args=[case.pk])).status_code == 404
    assert not AuditEvent.objects.filter(kind=Kind.VIEWED).exists()


def test_a_page_is_not_shown_if_its_view_cannot_be_recorded(
    as_user: As, alice: User, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    client = as_user(alice)
    monkeypatch.setattr(audit, "record", full)
    client.raise_request_exception = False
    answer = client.get(reverse("cases:case", args=[case.pk]))
    assert answer.status_code >= 500
    assert case.title.encode() not in answer.content


def test_signing_in_and_out_is_recorded(client: Client, alice: User) -> None:
    login = reverse("account_login")
    client.post(login, {"login": "alice", "password": "wrong wrong wrong"})
    client.post(login, {"login": "alice", "password": PASSWORD})
    client.post(reverse("account_logout"))
    assert kinds(actor=audit.identity_of(alice)) == [Kind.REFUSED, Kind.SIGNED_IN, Kind.SIGNED_OUT]
    assert "wrong" not in "".join(AuditEvent.objects.values_list("detail", flat=True))


def test_the_owner_and_reviewers_read_the_trail(as_user: As, alice: User, reviewer: User, case: Case) -> None:
    as_user(reviewer).get(reverse("cases:case", args=[case.pk]))
    page = as_user(alice).get(reverse("cases:trail", args=[case.pk])).content.decode()
    assert "rita" in page and "127.0.0.1" in page
    rows = as_user(reviewer).get(reverse("cases:trail_export", args=[case.pk, "json"])).json()["events"]
    assert [row["kind"] for row in rows][-2:] == ["viewed", "exported"]


def test_the_trail_shows_which_checkpoint_covers_an_event(as_user: As, alice: User, sealed: AuditCheckpoint) -> None:
    case = Case.objects.get()
    page = as_user(alice).get(reverse("cases:trail", args=[case.pk])).content.decode()
    assert f"<td>{sealed.pk}</td>" in page
    audit.record(Kind.VIEWED, case, alice)
    assert "pending" in as_user(alice).get(reverse("cases:trail", args=[case.pk])).content.decode()


def test_an_event_cannot_be_changed_or_deleted(case: Case, alice: User) -> None:
    event = audit.record(Kind.VIEWED, case, alice)
    with pytest.raises(TypeError):
        event.save()
    with pytest.raises(TypeError):
        event.delete()


def test_an_intact_trail_verifies(sealed: AuditCheckpoint, case: Case) -> None:
    audit.record(Kind.EDITED, case)
    second = audit.add_checkpoint()
    assert second is not None and second.previous == sealed.hash
    assert audit.verify() == audit.verify(expected=sealed.hash) == []
    assert audit.add_checkpoint() is None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cases_auditevent SET detail = 'nothing' WHERE id = %s",
        "UPDATE cases_auditevent SET kind = 'edited' WHERE id = %s",
        "UPDATE cases_auditevent SET actor_id = NULL WHERE id = %s",
        "UPDATE cases_auditevent SET at = '2020-01-01 00:00:00' WHERE id = %s",
        "UPDATE cases_auditevent SET case_id = NULL WHERE id = %s",
        "DELETE FROM cases_auditevent WHERE id = %s",
        "UPDATE cases_auditevent SET salt = '' WHERE id = %s",
    ],
)
def test_tampering_is_detected(change: str, sealed: AuditCheckpoint) -> None:
    event = sealed.events.order_by("pk")[2]
    with connection.cursor() as cursor:
        cursor.execute(change, [event.pk])
    assert audit.verify()


def test_a_rewritten_chain_lacks_an_earlier_hash(sealed: AuditCheckpoint) -> None:
    noted = sealed.hash
    event = sealed.events.order_by("pk")[0]
    AuditEvent.objects.filter(pk=event.pk).update(kind=Kind.EDITED)
    events = list(sealed.events.order_by("pk"))
    forged = log._link(log.GENESIS, (event.line for event in events))
    AuditCheckpoint.objects.filter(pk=sealed.pk).update(hash=forged)
    assert audit.verify() == []
    assert audit.verify(expected=noted)


def test_the_chain_cannot_fork(sealed: AuditCheckpoint) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditCheckpoint.objects.create(previous=log.GENESIS, hash="f" * 64, count=0)


def test_deleting_a_case_erases_the_details_of_its_events(slide: Slide, case: Case) -> None:
    pk = case.pk
    audit.add_checkpoint()
    services.remove_case(case, case.owner)
    audit.add_checkpoint()
    events = AuditEvent.objects.filter(case=pk)
    assert Kind.DELETED in kinds(case=pk) and Kind.ADDED in kinds(case=pk)
    assert not events.exclude(detail="").exists()
    assert audit.verify() == []


def test_erasing_a_user_keeps_the_chain_valid(alice: User, case: Case, sealed: AuditCheckpoint) -> None:
    key = audit.identity_of(alice).pk
    audit.erase_person(alice)
    audit.add_checkpoint()
    assert audit.verify() == []
    assert not Pseudonym.objects.filter(user=alice).exists()
    assert {row["actor"] for row in audit.rows(AuditEvent.objects.filter(case=case))} == {f"erased {key}"}


def test_addresses_are_erased_after_the_retention_period(alice: User, case: Case) -> None:
    with audit.client_address("192.0.2.1"):
        old = audit.record(Kind.VIEWED, case, alice)
    with audit.client_address("192.0.2.2"):
        audit.record(Kind.VIEWED, case, alice)
    AuditEvent.objects.filter(pk=old.pk).update(at=timezone.now() - timedelta(days=400))
    assert audit.erase_addresses(timezone.now() - timedelta(days=180)) == 1
    assert [identity.address for identity in Pseudonym.objects.filter(user=None)] == ["192.0.2.2"]


def test_the_commands(sealed: AuditCheckpoint, case: Case, alice: User) -> None:
    audit.record(Kind.VIEWED, case, alice)
    out = StringIO()
    call_command("audit", "seal", stdout=out)
    call_command("audit", "verify", expect=sealed.hash, stdout=out)
    assert "Valid: 2 checkpoints cover 6 events" in out.getvalue()
    lines = StringIO()
    call_command("audit", "export", case=str(case.pk), stdout=lines)
    assert [json.loads(line)["kind"] for line in lines.getvalue().splitlines()] == ["viewed"] * 6
    with pytest.raises(CommandError, match="invalid UUID"):
        call_command("audit", "export", "--case=x")
    AuditEvent.objects.filter(checkpoint=sealed).update(about=uuid.uuid4())
    with pytest.raises(CommandError):
        call_command("audit", "verify", stderr=StringIO())


def test_the_cluster_writes_checkpoints(case: Case, alice: User) -> None:
    event = audit.record(Kind.VIEWED, case, alice)
    audit.housekeeping(None)
    assert not AuditCheckpoint.objects.exists()
    AuditEvent.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(minutes=2))
    audit.housekeeping(None)
    assert AuditCheckpoint.objects.count() == 1
