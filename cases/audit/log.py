"""Writing, sealing, checking and exporting the trail of :mod:`cases.models.audit`."""

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
def coming_from(address: str | None) -> Iterator[None]:
    """Events written meanwhile note this address."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def identity_of(user: User) -> Pseudonym:
    """The key under which the trail knows this person."""
    return Pseudonym.objects.get_or_create(user=user)[0]


def record(
    kind: AuditEvent.Kind,
    case: Case | uuid.UUID | None = None,
    actor: User | None = None,
    detail: str = "",
    about: uuid.UUID | None = None,
) -> AuditEvent:
    """Write an event of now. A failing write fails what it speaks of: nothing happens unrecorded."""
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
    """The same event of several cases, in one statement."""
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


def seal() -> AuditCheckpoint | None:
    """Close the events written since the last seal with a link of the chain; None where there are none.

    May run anywhere at any time: of two at once one wins and the other does nothing. The hash is logged,
    so that a copy of it lies outside the database.
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
    log.info("Sealed %d events: %s", made.count, made.hash)
    return made


def verify(expected: str = "") -> list[str]:
    """What is wrong with the trail; nothing where it is whole.

    ``expected`` is a hash noted earlier: the chain must contain it, which also shows that its end was not cut off.
    """
    problems = []
    previous, seen = GENESIS, False
    for link in AuditCheckpoint.objects.order_by("pk"):
        events = list(AuditEvent.objects.filter(checkpoint=link).order_by("pk"))
        if link.previous != previous:
            problems.append(f"Checkpoint {link.pk} does not follow the one before it.")
        if len(events) != link.count:
            problems.append(f"Checkpoint {link.pk} closes {link.count} events, but {len(events)} are there.")
        if _link(link.previous, (event.line for event in events)) != link.hash:
            problems.append(f"Checkpoint {link.pk}: its events were changed after it was made.")
        problems += [f"Event {event.pk}: its words were changed." for event in events if not event.matches_digest]
        previous = link.hash
        seen = seen or link.hash == expected
    if expected and not seen:
        problems.append(f"No checkpoint has the hash {expected}: the chain was cut or rewritten.")
    return problems


def rows(events: QuerySet[AuditEvent]) -> Iterator[dict[str, Any]]:
    """Events as plain values for an export, oldest first, names resolved where they are still known."""
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
    """Forget the words of a deleted case's events; that they happened stays."""
    AuditEvent.objects.filter(case=case).update(detail="", salt="")


def erase_name(slide: uuid.UUID, case: uuid.UUID, name: str) -> None:
    """Forget what an image was called that is gone; that it was added and run again stays."""
    # Events of earlier versions tell their image by its name alone.
    its = Q(about=slide) | Q(about=None, detail=name[:200])
    kinds = [AuditEvent.Kind.ADDED, AuditEvent.Kind.REQUESTED]
    AuditEvent.objects.filter(its, case=case, kind__in=kinds).update(detail="", salt="")


#: Of what the administration's own log may keep the names, which go with what they name. The words of all else
#: (addresses, tags, sessions with browser and network address) nobody would find again.
NAMED = {"case", "slide", "user", "group", "modelversion"}


def keep_no_name(sender: Any, instance: LogEntry, **kwargs: Any) -> None:
    """Before an entry of the administration's log is written."""
    if instance.content_type is None or instance.content_type.model not in NAMED:
        instance.object_repr = ""


def erase_log_entries(keys: Iterable[uuid.UUID]) -> None:
    """Forget what the administration's own log calls cases and slides that are gone."""
    LogEntry.objects.filter(object_id__in=[str(key) for key in keys]).update(object_repr="erased")


def erase_person(user: User) -> None:
    """Forget whom a key stands for, and the name where words tell it. The trail says so, by that key."""
    record(AuditEvent.Kind.ERASED, actor=user)
    named = Q(about=identity_of(user).pk) | Q(detail=str(user))
    AuditEvent.objects.filter(named, kind=AuditEvent.Kind.ASSIGNED).update(detail="", salt="")
    people = ContentType.objects.get_for_model(User)
    LogEntry.objects.filter(content_type=people, object_id=str(user.pk)).update(object_repr="erased")
    Pseudonym.objects.filter(user=user).delete()


def erase_addresses(before: Any) -> int:
    """Forget the addresses that only events before this moment speak of."""
    recent = AuditEvent.objects.filter(at__gte=before, address__isnull=False).values("address_id")
    return Pseudonym.objects.filter(user=None).exclude(pk__in=recent).delete()[0]


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Write a checkpoint once a minute, called by every running cluster every few seconds."""
    oldest = AuditEvent.objects.filter(checkpoint=None).order_by("pk").values_list("at", flat=True).first()
    if oldest and (timezone.now() - oldest).total_seconds() > 60:
        seal()
