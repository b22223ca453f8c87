"""Readings: assigning, signing and showing them."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Case as Choice
from django.db.models import QuerySet, When

from cases import audit
from cases.accounts.permissions import lock
from cases.limits.quotas import require_received
from cases.models import AuditEvent, Case, Review, User
from cases.services.aggregation import case_model
from cases.services.timeline import record


def record_reading_changes(case: Case, before: Case, actor: User) -> None:
    """Record in the audit trail if a form changed the assigned reader or the blinding."""
    if case.assigned_to_id != before.assigned_to_id:
        _record_assigned(case, case.assigned_to, actor)
    if case.is_blinded != before.is_blinded:
        words = "Blinded double reading set" if case.is_blinded else "Blinded double reading lifted"
        record(case, AuditEvent.Kind.EDITED, actor, words)


def _record_assigned(case: Case, reader: User | None, actor: User) -> None:
    # The reader's key finds this event if their name has to be erased.
    key = audit.identity_of(reader).pk if reader else None
    record(case, AuditEvent.Kind.ASSIGNED, actor, str(reader) if reader else "nobody", key)


def assign(case: Case, reader: User | None, actor: User) -> None:
    """Assign the case to a reviewer, or to nobody."""
    Case.objects.filter(pk=case.pk).update(assigned_to=reader)
    _record_assigned(case, reader, actor)


def sign_review(case: Case, author: User, reading: str, subtype: str = "", comment: str = "") -> Review:
    """Sign a reading and store the current case result with it.

    Raises ``PermissionDenied`` if the author may no longer read the case.
    """
    with transaction.atomic():
        author = lock(author)
        # Locked, so that two readings signed at once don't both count as the first.
        held = Case.objects.visible_to(author).for_change().filter(pk=case.pk).first()
        if held is None:
            raise PermissionDenied("You no longer have access to this case.")
        require_received(held)
        record(held, AuditEvent.Kind.REVIEWED, author)
        # While analyses are open, there is no result to compare the reading with.
        verdict = "" if held.open_count else held.verdict
        return Review.objects.create(
            case=held,
            author=author,
            was_blind=is_blind(held),
            reading=reading,
            subtype=subtype,
            comment=comment,
            verdict=verdict,
            probability=held.probability if verdict else None,
            model_version=case_model(held) if verdict else None,
        )


def next_unread(case: Case, reader: User) -> Case | None:
    """The case to read after ``case``: analysed, visible to ``reader`` and not yet read by them. First those assigned
    to them, then those older than ``case``, then the newest."""
    unread = Case.objects.visible_to(reader).filter(slide_count__gt=0, open_count=0)
    unread = unread.exclude(pk=case.pk).exclude(pk__in=Review.objects.filter(author=reader).values("case"))
    first = When(assigned_to=reader, then=0)
    second = When(created_at__lt=case.created_at, then=1)
    return unread.order_by(Choice(first, second, default=2), "-created_at").first()


def is_blind(case: Case, reviews: Iterable[Review] | None = None) -> bool:
    """Whether readings are still visible only to their authors. ``reviews`` are all readings of the case, if they are
    loaded already."""
    if not case.is_blinded:
        return False
    authors = (
        case.reviews.values("author").distinct().count() if reviews is None else len({r.author_id for r in reviews})
    )
    return authors < 2


def visible_reviews(case: Case, reader: User) -> QuerySet[Review]:
    """The readings that ``reader`` may see: in a blinded case only their own, until two people have signed."""
    reviews = case.reviews.select_related("author", "model_version")
    return reviews.filter(author=reader) if is_blind(case) else reviews
