"""The Analysis table as a queue: ask, claim, renew, finish, hand back, sweep.

Every step is one conditional UPDATE, so that two workers, or one task run twice, can't do harm: a
worker may write to a row only while the row carries its claim.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.tasks import async_task

from inference.engine.predictor import Prediction
from inference.jobs import fairness
from inference.jobs.signals import analysis_ended, analysis_ending
from inference.models import OPEN, Analysis, Cluster, ModelVersion, PatchTable, State
from inference.registry import active_model

log = logging.getLogger(__name__)


def request_analyses(
    sizes: Mapping[uuid.UUID, tuple[int, int]],
    person: int,
    overlap: float | None = None,
    model_version: ModelVersion | None = None,
) -> list[Analysis]:
    """Queue one analysis a slide and wake a worker once the transaction commits.

    ``sizes`` are the slides' primary keys with width and height in pixels, ``person`` is the primary key of who owns
    them: theirs are taken in the order they were asked for, and in turn with other people's, so that a folder of
    hundreds does not starve a single image. An analysis of a slide that is still open stays as it is and is returned
    instead of a second one.

    Raises :class:`inference.registry.NoModel` when no model version is active.
    """
    model = model_version or active_model()
    overlap = settings.ANALYSIS_OVERLAP if overlap is None else overlap
    result = []
    with transaction.atomic():
        # Whoever asks for the same slide at the same time waits here, and then finds this one's analysis. In the order
        # that everybody does, so that no two wait for each other.
        asked_before = Analysis.objects.filter(slide__in=sizes, is_current=True).order_by("pk")
        list(asked_before.select_for_update().values_list("pk"))
        turn = fairness.next_turn(person)
        current = Analysis.objects.filter(slide__in=sizes, is_current=True, state__in=OPEN)
        still_open = {analysis.slide_id: analysis for analysis in current}
        for slide_id, (width, height) in sizes.items():
            if slide_id in still_open:
                result.append(still_open[slide_id])
                continue
            Analysis.objects.filter(slide=slide_id, is_current=True).update(is_current=False)
            # One that is gone meanwhile ends with this transaction.
            asked = {"slide_id": slide_id, "model_version": model, "overlap": overlap}
            result.append(Analysis.objects.create(**asked, person=person, turn=turn))
            turn += fairness.work(width, height, overlap)
        transaction.on_commit(wake)
    return result


def _update(rows: Any, **values: Any) -> int:
    """Change rows one by one: a worker holds none while it waits for another, which somebody may be deleting."""
    return sum(rows.filter(pk=pk).update(**values) for pk in list(rows.values_list("pk", flat=True)))


def open_count(person: int | None = None) -> int:
    """How many analyses wait or run: this person's, or everybody's."""
    if person is not None:
        return Analysis.objects.filter(person=person, finished_at=None, state__in=OPEN).count()
    # One by one: SQLite has an index for either state, and uses none for both.
    return sum(Analysis.objects.filter(state=state).count() for state in OPEN)


#: Seconds for which a broker that failed is not asked again; and when that time is over, of this process.
BROKER_PAUSE = 5.0
_broker_away_until = 0.0


def wake() -> None:
    """Tell a worker that there is something to do. Losing the message is harmless: see :func:`reclaim_expired`."""
    global _broker_away_until
    if time.monotonic() < _broker_away_until:
        return
    try:
        # A message that nobody has taken yet will find these rows as well.
        if not get_broker().queue_size():
            async_task("inference.jobs.worker.process_queue", task_name="process_queue", save=False)
    except Exception:  # whatever a broker raises; the rows are safe, and the sweep of a cluster finds them
        _broker_away_until = time.monotonic() + BROKER_PAUSE
        log.exception("No wake-up message could be sent; the sweep will find the waiting analyses.")


def claim_next(claim: uuid.UUID, beside: bool = False) -> Analysis | None:
    """Take the best waiting analysis for the holder of ``claim``, or None when nothing waits.

    ``beside``: the holder has others under way. Then None too where the best one's worker has died before: it may be
    what the worker died of, and shall not take an attempt of those beside it once more.
    """
    while True:
        waiting = Analysis.objects.filter(state=State.QUEUED).order_by("turn", "queued_at")
        best = waiting.select_related("slide").first()
        if best is None or (beside and best.attempts):
            return None
        # Before it is taken, as this may wait for who sends more at the moment.
        fairness.begin(best)
        now = timezone.now()
        taken = Analysis.objects.filter(pk=best.pk, state=State.QUEUED).update(
            state=State.RUNNING,
            claim=claim,
            lease_until=now + timedelta(seconds=settings.ANALYSIS_LEASE),
            attempts=F("attempts") + 1,
            started_at=now,
            patches_done=0,
            patches_total=0,
        )
        mine = Analysis.with_model().select_related("slide").filter(pk=best.pk, claim=claim)
        # None where its slide was removed in between.
        if taken and (analysis := mine.first()):
            return analysis


def _held(pk: uuid.UUID, claim: uuid.UUID) -> Any:
    return Analysis.objects.filter(pk=pk, claim=claim, state=State.RUNNING)


def renew(claim: uuid.UUID, pks: Iterable[uuid.UUID]) -> None:
    """Extend the leases of a worker that is alive."""
    until = timezone.now() + timedelta(seconds=settings.ANALYSIS_LEASE)
    _update(Analysis.objects.filter(pk__in=list(pks), claim=claim, state=State.RUNNING), lease_until=until)


def progress(pk: uuid.UUID, claim: uuid.UUID, done: int, total: int) -> bool:
    """Say how many patches are through. False where the analysis is gone or another's."""
    return bool(_held(pk, claim).update(patches_done=done, patches_total=total))


def finish(pk: uuid.UUID, claim: uuid.UUID, prediction: Prediction, runtime: str) -> bool:
    """Store a result. False where the claim was lost meanwhile, and nothing is written."""
    verdict = prediction.verdict
    grid = prediction.grid
    with transaction.atomic():
        analysis_ending.send(Analysis, pk=pk)
        written = _held(pk, claim).update(
            state=State.DONE,
            claim=None,
            lease_until=None,
            finished_at=timezone.now(),
            runtime=runtime,
            verdict=verdict.verdict,
            probability=verdict.probability_malignant,
            raw_probability=verdict.raw_malignant,
            confidence=verdict.confidence,
            benign_patches=verdict.benign_patches,
            malignant_patches=verdict.malignant_patches,
            empty_patches=verdict.empty_patches,
            warnings=list(verdict.warnings),
            patches_done=len(grid) - verdict.empty_patches,
            patches_total=len(grid) - verdict.empty_patches,
            seconds=prediction.seconds,
            error="",
            error_code="",
        )
        if not written:
            return False
        PatchTable.objects.update_or_create(
            analysis_id=pk,
            defaults={
                "width": grid.width,
                "height": grid.height,
                "malignant_bytes": prediction.probabilities[:, 1].astype("<f4").tobytes(),
                "activation_bytes": prediction.activation.astype("<f2").tobytes(),
                "tissue_bytes": prediction.tissue.astype("<f4").tobytes(),
            },
        )
        _announce(pk)
    return True


def fail(pk: uuid.UUID, claim: uuid.UUID, code: str, message: str) -> bool:
    """End an analysis as failed, with a reason that its owner reads. False where the claim was lost."""
    with transaction.atomic():
        analysis_ending.send(Analysis, pk=pk)
        written = _held(pk, claim).update(
            state=State.FAILED,
            claim=None,
            lease_until=None,
            finished_at=timezone.now(),
            error_code=code,
            error=message,
        )
        if written:
            _announce(pk)
    return bool(written)


def release(claim: uuid.UUID) -> int:
    """Put back what a worker holds, when it has to stop; the attempt does not count."""
    held = Analysis.objects.filter(claim=claim, state=State.RUNNING)
    return _update(held, state=State.QUEUED, claim=None, lease_until=None, attempts=F("attempts") - 1, patches_done=0)


def abandon(claim: uuid.UUID) -> None:
    """End the leases of a worker that failed. The attempt counts; the sweep decides what becomes of the rows."""
    _update(Analysis.objects.filter(claim=claim, state=State.RUNNING), lease_until=None)


def reclaim_expired() -> int:
    """Pick up what was left behind, and wake a worker if anything waits. Returns how many rows moved.

    A row whose lease ran out goes back to the queue, or fails visibly after the last attempt.
    """
    now = timezone.now()
    running = Analysis.objects.filter(state=State.RUNNING).values_list("pk", "lease_until")
    # Named one by one: of an "or" SQLite makes a walk through the whole table, with everybody else locked out.
    lapsed = [pk for pk, lease_until in running if lease_until is None or lease_until < now]
    lost = Analysis.objects.filter(pk__in=lapsed, state=State.RUNNING).filter(
        Q(lease_until__lt=now) | Q(lease_until=None)
    )
    given_up = lost.filter(attempts__gte=settings.ANALYSIS_MAX_ATTEMPTS)
    for pk in list(given_up.values_list("pk", flat=True)):
        with transaction.atomic():
            analysis_ending.send(Analysis, pk=pk)
            changed = given_up.filter(pk=pk).update(
                state=State.FAILED,
                claim=None,
                lease_until=None,
                finished_at=now,
                error_code="interrupted",
                error=f"The worker stopped {settings.ANALYSIS_MAX_ATTEMPTS} times during this analysis. "
                "Run it again; if it fails again, the image may be too large for this machine.",
            )
            if changed:
                _announce(pk)
    moved = _update(lost, state=State.QUEUED, claim=None, lease_until=None, patches_done=0)
    if moved:
        log.warning("Put %d interrupted analyses back into the queue.", moved)
    if Analysis.objects.filter(state=State.QUEUED).exists():
        wake()
    return moved


def worker_alive() -> bool:
    """Whether a cluster was heard of lately."""
    since = timezone.now() - timedelta(seconds=settings.WORKER_TIMEOUT)
    return Cluster.objects.filter(seen_at__gte=since).exists()


def has_fallback() -> bool:
    """Whether a running cluster found a faster form of the model damaged, or wrong on its machine."""
    since = timezone.now() - timedelta(seconds=settings.WORKER_TIMEOUT)
    return Cluster.objects.filter(seen_at__gte=since, fell_back=True).exists()


def is_stalled() -> bool:
    """Whether something has waited for long, while none is worked on and none was taken up of late."""
    since = timezone.now() - timedelta(seconds=settings.WORKER_TIMEOUT)
    if not Analysis.objects.filter(state=State.QUEUED, queued_at__lt=since).exists():
        return False
    at_work = Q(state=State.RUNNING, lease_until__gte=timezone.now()) | Q(started_at__gte=since)
    return not Analysis.objects.filter(at_work).exists()


def position(analysis: Analysis) -> int:
    """How many waiting analyses stand before this one; 0 is next."""
    return (
        Analysis.objects.filter(state=State.QUEUED)
        .filter(Q(turn__lt=analysis.turn) | Q(turn=analysis.turn, queued_at__lt=analysis.queued_at))
        .count()
    )


def _announce(pk: uuid.UUID) -> None:
    analysis = Analysis.objects.select_related("slide").get(pk=pk)
    analysis_ended.send(Analysis, analysis=analysis)
