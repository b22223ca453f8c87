"""The Analysis table as a queue: request, claim, renew, finish, release, reclaim.

Every step is one conditional UPDATE: a worker can write to a row only while the row carries its claim. Two workers, or
a task that runs twice, therefore cannot overwrite each other's results.
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
    """Queue one analysis per slide and wake a worker once the transaction commits.

    ``sizes`` maps the slides' primary keys to width and height in pixels; ``person`` is the primary key of their owner.
    Analyses of one owner run in the order of the requests, interleaved with those of other owners, so that a folder of
    hundreds of images does not delay another user's single image. If a slide already has a queued or running analysis,
    that one is returned and no second one is created.

    Raises :class:`inference.registry.NoModel` if no model version is active.
    """
    model = model_version or active_model()
    overlap = settings.ANALYSIS_OVERLAP if overlap is None else overlap
    result = []
    with transaction.atomic():
        # A concurrent request for the same slide waits here and then finds this one's analysis. Always in the same
        # order, to avoid deadlocks.
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
            # If the slide has been deleted in the meantime, the foreign key fails when the transaction commits.
            asked = {"slide_id": slide_id, "model_version": model, "overlap": overlap}
            result.append(Analysis.objects.create(**asked, person=person, turn=turn))
            turn += fairness.work(width, height, overlap)
        transaction.on_commit(wake)
    return result


def _update(rows: Any, **values: Any) -> int:
    """Update rows one by one, so that no row stays locked while waiting for another that is being deleted."""
    return sum(rows.filter(pk=pk).update(**values) for pk in list(rows.values_list("pk", flat=True)))


def open_count(person: int | None = None) -> int:
    """Number of queued and running analyses, of this user or overall."""
    if person is not None:
        return Analysis.objects.filter(person=person, finished_at=None, state__in=OPEN).count()
    # One query per state: SQLite would not use its partial indexes for both states together.
    return sum(Analysis.objects.filter(state=state).count() for state in OPEN)


#: Seconds during which this process does not contact a broker again after a failure.
BROKER_PAUSE = 5.0
_broker_away_until = 0.0


def wake() -> None:
    """Send a message that wakes a worker. A lost message does no harm: see :func:`reclaim_expired`."""
    global _broker_away_until
    if time.monotonic() < _broker_away_until:
        return
    try:
        # A message that is still waiting in the broker is enough for these rows, too.
        if not get_broker().queue_size():
            async_task("inference.jobs.worker.process_queue", task_name="process_queue", save=False)
    except Exception:
        # Any failure of a broker is harmless, as a running cluster finds the rows at its next heartbeat. The pause
        # keeps requests fast while the broker's connection times out.
        _broker_away_until = time.monotonic() + BROKER_PAUSE
        log.exception(
            "The wake-up message could not be sent; workers find the queued analyses at their next heartbeat."
        )


def claim_next(claim: uuid.UUID, has_others: bool = False) -> Analysis | None:
    """Claim the next queued analysis for the holder of ``claim``; None if nothing is queued.

    ``has_others``: the holder is already working on other analyses. Then also None if a worker died during the next
    one: it may have caused that, and would cost the others an attempt as well.
    """
    while True:
        waiting = Analysis.objects.filter(state=State.QUEUED).order_by("turn", "queued_at")
        best = waiting.select_related("slide").first()
        if best is None or (has_others and best.attempts):
            return None
        # Before the claim, because this may wait for a request that holds the lock on the owner's queue state.
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
        # The row is gone if its slide was deleted in between.
        if taken and (analysis := mine.first()):
            return analysis


def _held(pk: uuid.UUID, claim: uuid.UUID) -> Any:
    return Analysis.objects.filter(pk=pk, claim=claim, state=State.RUNNING)


def renew(claim: uuid.UUID, pks: Iterable[uuid.UUID]) -> None:
    """Extend the leases of these analyses, if they still carry the claim."""
    until = timezone.now() + timedelta(seconds=settings.ANALYSIS_LEASE)
    _update(Analysis.objects.filter(pk__in=list(pks), claim=claim, state=State.RUNNING), lease_until=until)


def progress(pk: uuid.UUID, claim: uuid.UUID, done: int, total: int) -> bool:
    """Store how many patches are done. False if the analysis was deleted or no longer carries the claim."""
    return bool(_held(pk, claim).update(patches_done=done, patches_total=total))


def finish(pk: uuid.UUID, claim: uuid.UUID, prediction: Prediction, runtime: str) -> bool:
    """Store a result. False, and nothing is written, if the claim was lost in the meantime."""
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
    """Mark an analysis as failed, with a stable code and a sentence for its owner. False if the claim was lost."""
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
    """Return a stopping worker's analyses to the queue without counting the attempt. Returns how many."""
    held = Analysis.objects.filter(claim=claim, state=State.RUNNING)
    return _update(held, state=State.QUEUED, claim=None, lease_until=None, attempts=F("attempts") - 1, patches_done=0)


def abandon(claim: uuid.UUID) -> None:
    """Expire the leases of a worker that failed. The attempt counts; :func:`reclaim_expired` handles the rows."""
    _update(Analysis.objects.filter(claim=claim, state=State.RUNNING), lease_until=None)


def reclaim_expired() -> int:
    """Reclaim analyses whose lease has expired, and wake a worker if any is queued. Returns how many were re-queued.

    After the last attempt, an analysis is marked as failed instead of being queued again.
    """
    now = timezone.now()
    running = Analysis.objects.filter(state=State.RUNNING).values_list("pk", "lease_until")
    # Selected in Python: with an OR, SQLite would scan the whole table while it holds the write lock.
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
                "Try again; if it fails again, the image may be too large for this machine.",
            )
            if changed:
                _announce(pk)
    moved = _update(lost, state=State.QUEUED, claim=None, lease_until=None, patches_done=0)
    if moved:
        log.warning("Returned %d interrupted analyses to the queue.", moved)
    if Analysis.objects.filter(state=State.QUEUED).exists():
        wake()
    return moved


def worker_alive() -> bool:
    """Whether a worker cluster has sent a heartbeat within WORKER_TIMEOUT."""
    since = timezone.now() - timedelta(seconds=settings.WORKER_TIMEOUT)
    return Cluster.objects.filter(seen_at__gte=since).exists()


def has_fallback() -> bool:
    """Whether a running cluster found the INT8 or bf16 form of the model damaged, or wrong on its machine."""
    since = timezone.now() - timedelta(seconds=settings.WORKER_TIMEOUT)
    return Cluster.objects.filter(seen_at__gte=since, fell_back=True).exists()


def is_stalled() -> bool:
    """Whether an analysis has been queued for longer than WORKER_TIMEOUT while none runs and none has started."""
    since = timezone.now() - timedelta(seconds=settings.WORKER_TIMEOUT)
    if not Analysis.objects.filter(state=State.QUEUED, queued_at__lt=since).exists():
        return False
    at_work = Q(state=State.RUNNING, lease_until__gte=timezone.now()) | Q(started_at__gte=since)
    return not Analysis.objects.filter(at_work).exists()


def position(analysis: Analysis) -> int:
    """How many queued analyses are ahead of this one; 0 means that it is next."""
    return (
        Analysis.objects.filter(state=State.QUEUED)
        .filter(Q(turn__lt=analysis.turn) | Q(turn=analysis.turn, queued_at__lt=analysis.queued_at))
        .count()
    )


def _announce(pk: uuid.UUID) -> None:
    analysis = Analysis.objects.select_related("slide").get(pk=pk)
    analysis_ended.send(Analysis, analysis=analysis)
