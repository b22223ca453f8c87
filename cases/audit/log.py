"""Writing, checking, exporting and erasing the audit events of :mod:`cases.models.audit`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from cases.models import Case, User
from cases.models.audit import AuditCheckpoint, AuditEvent, Pseudonym

log = logging.getLogger(__name__)

GENESIS = "0" * 64
#: Most events of one checkpoint.
BATCH = 10_000

#: Network address of the request that this thread is answering.
_address: ContextVar[str | None] = ContextVar("audit_address", default=None)


@contextlib.contextmanager
def client_address(address: str | None) -> Iterator[None]:
    """Within this context, events are written with this network address."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def identity_of(user: User) -> Pseudonym:
    """The pseudonym that stands for this person in the audit trail."""
    return Pseudonym.objects.get_or_create(user=user)[0]


def record(
    kind: AuditEvent.Kind,
    case: Case | uuid.UUID | None = None,
    actor: User | None = None,
    detail: str = "",
    about: uuid.UUID | None = None,
) -> AuditEvent:
    """Write an event with the current time.

    Call it in the transaction of the action, so that a failed write also rolls back the action.
    """
    event = AuditEvent(
        kind=kind,
        case_id=case.pk if isinstance(case, Case) else case,
        actor=identity_of(actor) if actor else None,
        address=_identity_of_address(),
        detail=detail[:200],
        about=about,
    )
    event.save()
    return event


def record_all(kind: AuditEvent.Kind, cases: Iterable[uuid.UUID], actor: User, detail: str) -> None:
    """Write the same event for several cases, in one statement."""
    actor_key, address = identity_of(actor), _identity_of_address()
    events = [AuditEvent(kind=kind, case_id=pk, actor=actor_key, address=address, detail=detail[:200]) for pk in cases]
    for event in events:
        event.take_digest()
    AuditEvent.objects.bulk_create(events)


def _identity_of_address() -> Pseudonym | None:
    address = _address.get()
    return Pseudonym.objects.get_or_create(address=address)[0] if address else None


def _link(previous: str, lines: Iterable[str]) -> str:
    digest = hashlib.sha256(previous.encode())
    for line in lines:
        digest.update(b"\n" + line.encode())
    return digest.hexdigest()


def add_checkpoint() -> AuditCheckpoint | None:
    """Add a link to the hash chain over the events since the last checkpoint; None if there are none.

    Safe to call concurrently: one call succeeds and the others do nothing. The hash is logged, so that a copy exists
    outside the database.
    """
    try:
        with transaction.atomic():
            events = list(AuditEvent.objects.filter(checkpoint=None).order_by("pk")[:BATCH])
            if not events:
                return None
            last = AuditCheckpoint.objects.order_by("-pk").first()
            previous = last.hash if last else GENESIS
            made = AuditCheckpoint.objects.create(
                previous=previous, hash=_link(previous, (event.line for event in events)), count=len(events)
            )
            keys = [event.pk for event in events]
            for start in range(0, len(keys), 500):
                AuditEvent.objects.filter(pk__in=keys[start : start + 500], checkpoint=None).update(checkpoint=made)
            if AuditEvent.objects.filter(checkpoint=made).count() != len(events):
                raise IntegrityError
    except IntegrityError:
        return None
    log.info("Audit checkpoint over %d events: %s", made.count, made.hash)
    return made


def verify(expected: str = "") -> list[str]:
    """A sentence for each problem of the audit trail; empty if it is intact.

    ``expected`` is a hash recorded earlier. The chain must contain it, which shows that its end was not cut off.
    """
    problems = []
    previous, seen = GENESIS, False
    for link in AuditCheckpoint.objects.order_by("pk"):
        events = list(AuditEvent.objects.filter(checkpoint=link).order_by("pk"))
        if link.previous != previous:
            problems.append(f"Checkpoint {link.pk} does not follow the one before it.")
        if len(events) != link.count:
            problems.append(f"Checkpoint {link.pk} covers {link.count} events, but {len(events)} exist.")
        if _link(link.previous, (event.line for event in events)) != link.hash:
            problems.append(f"Checkpoint {link.pk}: its events were changed after it was written.")
        problems += [f"Event {event.pk}: its detail was changed." for event in events if not event.matches_digest]
        previous = link.hash
        seen = seen or link.hash == expected
    if expected and not seen:
        problems.append(f"No checkpoint has the hash {expected}: the chain was cut or rewritten.")
    return problems


def rows(events: QuerySet[AuditEvent]) -> Iterator[dict[str, Any]]:
    """Events as plain values for an export, oldest first, with the names that have not been erased."""
    for event in events.select_related("actor__user", "address").order_by("pk").iterator(chunk_size=1000):
        yield {
            "id": event.pk,
            "at": event.at.isoformat(),
            "kind": event.kind,
            "case": str(event.case_id) if event.case_id else None,
            "about": str(event.about) if event.about else None,
            "actor": _name(event.actor, event.actor_id),
            "address": _name(event.address, event.address_id),
            "detail": event.detail,
            "checkpoint": event.checkpoint_id,
        }


def _name(identity: Pseudonym | None, key: uuid.UUID | None) -> str | None:
    if identity is not None:
        return str(identity)
    return f"erased {key}" if key else None


def erase_details(case: uuid.UUID) -> None:
    """Erase the details of a deleted case's events; the events remain."""
    AuditEvent.objects.filter(case=case).update(detail="", salt="")


def erase_name(slide: uuid.UUID, case: uuid.UUID, name: str) -> None:
    """Erase the file name of a deleted image from its events; the events remain."""
    # Events of earlier versions identify the image by its name only.
    its = Q(about=slide) | Q(about=None, detail=name[:200])
    kinds = [AuditEvent.Kind.ADDED, AuditEvent.Kind.REQUESTED]
    AuditEvent.objects.filter(its, case=case, kind__in=kinds).update(detail="", salt="")


#: Models whose names the administration's log may keep: they are erased when the object is deleted. Names of other
#: objects (e-mail addresses, tags, sessions with browser and network address) would stay in the log for ever.
ERASABLE = {"case", "slide", "user", "group", "modelversion"}


def redact_log_entry(sender: Any, instance: LogEntry, **kwargs: Any) -> None:
    """Signal receiver: remove the object's name from an entry of the administration's log before it is saved."""
    if instance.content_type is None or instance.content_type.model not in ERASABLE:
        instance.object_repr = ""


def erase_log_entries(keys: Iterable[uuid.UUID]) -> None:
    """Erase the names of deleted cases and slides from the administration's log."""
    LogEntry.objects.filter(object_id__in=[str(key) for key in keys]).update(object_repr="erased")


def erase_person(user: User) -> None:
    """Delete a person's pseudonym, and their name from details. An event under that pseudonym records the erasure."""
    record(AuditEvent.Kind.ERASED, actor=user)
    named = Q(about=identity_of(user).pk) | Q(detail=str(user))
    AuditEvent.objects.filter(named, kind=AuditEvent.Kind.ASSIGNED).update(detail="", salt="")
    people = ContentType.objects.get_for_model(User)
    LogEntry.objects.filter(content_type=people, object_id=str(user.pk)).update(object_repr="erased")
    Pseudonym.objects.filter(user=user).delete()


def erase_addresses(before: Any) -> int:
    """Delete the network addresses that no event since ``before`` refers to; returns how many."""
    recent = AuditEvent.objects.filter(at__gte=before, address__isnull=False).values("address_id")
    return Pseudonym.objects.filter(user=None).exclude(pk__in=recent).delete()[0]


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Signal receiver, called by every running cluster every few seconds: write a checkpoint once a minute."""
    oldest = AuditEvent.objects.filter(checkpoint=None).order_by("pk").values_list("at", flat=True).first()
    if oldest and (timezone.now() - oldest).total_seconds() > 60:
        add_checkpoint()
