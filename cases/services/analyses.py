"""Requests for analyses."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from cases.limits.quotas import require_room, room
from cases.models import AuditEvent, Case, Slide, User
from cases.services.aggregation import refresh
from cases.services.locking import lock_case
from cases.services.timeline import record
from inference.jobs.queue import request_analyses
from inference.models import OPEN, Analysis, ModelVersion


def analyse(
    case: Case,
    slides: Sequence[Slide],
    overlap: float | None = None,
    model_version: ModelVersion | None = None,
) -> list[Analysis]:
    """Queue an analysis of each slide. A slide whose analysis is still open keeps that one."""
    with transaction.atomic():
        lock_case(case.pk)
        analyses = request_analyses(
            {slide.pk: (slide.width, slide.height) for slide in slides},
            case.owner_id,
            overlap=case.overlap if overlap is None else overlap,
            model_version=model_version,
        )
        refresh(case)
    return analyses


def request_again(
    case: Case,
    slides: Sequence[Slide],
    actor: User,
    overlap: float | None = None,
    model_version: ModelVersion | None = None,
) -> list[Analysis]:
    """Analyse slides again, by default with the active model, and record who requested it.

    If the quota does not allow all of them, the slides with the oldest results are queued, so that a second request
    reaches the others. Returns the analyses that are open now. Raises :class:`cases.limits.quotas.CapacityExceeded`.
    """
    current = Analysis.objects.filter(slide__in=slides, is_current=True)
    still_open = set(current.filter(state__in=OPEN).values_list("slide_id", flat=True))
    age = dict(current.values_list("slide_id", "queued_at"))
    oldest = sorted(slides, key=lambda slide: age.get(slide.pk, slide.added_at))
    ended = [slide.pk for slide in oldest if slide.pk not in still_open]
    chosen = set(ended[: max(1, room(case.owner))])
    require_room(case.owner, len(chosen))
    taken = [slide for slide in slides if slide.pk in chosen | still_open]
    if not taken:
        return []
    detail, about = (taken[0].original_name, taken[0].pk) if len(taken) == 1 else (f"{len(taken)} images", None)
    # In one transaction, because deleting an image erases its name from the events recorded so far.
    with transaction.atomic():
        analyses = analyse(case, taken, overlap, model_version)
        record(case, AuditEvent.Kind.REQUESTED, actor, detail, about)
    return analyses
