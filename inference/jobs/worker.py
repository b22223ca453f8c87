"""The worker process: claims analyses, runs the model, stores results. Imports torch only if the runtime needs it."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django_q.signals import post_spawn

from inference.engine.checkpoint import CheckpointError
from inference.engine.image import Decoded, ImageError, open_stored
from inference.engine.predictor import Job, JobCancelled, Outcome, Predictor
from inference.jobs import queue
from inference.models import Analysis, ModelVersion
from inference.registry import active_model, verify

log = logging.getLogger(__name__)

#: Seconds after which a task claims nothing more and is replaced by a new one.
TASK_SECONDS = 60
#: Seconds between two writes of progress, and between two renewals of leases.
PROGRESS_EVERY = 0.5
RENEW_EVERY = 5.0
#: Seconds without progress after which leases are no longer renewed: longer than reading and decoding any image takes.
STALL_SECONDS = 600.0
#: While an image with more patches than this (20 fields, some seconds of work) is analysed, nothing else is claimed.
LONG_PATCHES = 240


class SharedFlag:
    """A flag in memory shared with forked processes, without a lock that a killed process could leave locked."""

    def __init__(self) -> None:
        self._value = multiprocessing.RawValue(ctypes.c_bool, False)

    def set(self) -> None:
        self._value.value = True

    def clear(self) -> None:
        self._value.value = False

    def is_set(self) -> bool:
        return bool(self._value.value)


#: Set by the cluster when it has to stop; inherited by the worker processes at their fork.
stopping = SharedFlag()

#: Set by a worker process that found another form damaged or failing its check; reported with the heartbeat.
fell_back = SharedFlag()

_predictors: dict[str, Predictor] = {}


class Stopping(Exception):
    """The cluster is stopping; claimed analyses go back to the queue."""


def connect() -> None:
    """Load the model when a worker process starts, so that the first image does not wait for it."""
    post_spawn.connect(_warm_up, dispatch_uid="inference.warm_up")


def _warm_up(**kwargs: Any) -> None:
    try:
        predictor_for(active_model())
    except Exception as error:  # noqa: BLE001  any failure is reported to the owner when an analysis needs the model
        log.warning("The model could not be loaded: %s", error)
    finally:
        connection.close()


def predictor_for(model: ModelVersion) -> Predictor:
    """The predictor of a model version. It stays loaded in this process until another version replaces it.

    Raises :class:`inference.engine.checkpoint.CheckpointError`.
    """
    if model.sha256 not in _predictors:
        from inference.engine import runtime

        verify(model)
        _predictors.clear()
        loaded = runtime.load(Path(model.path), settings.ANALYSIS_DEVICE, settings.ANALYSIS_THREADS)
        _predictors[model.sha256] = Predictor(loaded)
        if loaded.problems:
            fell_back.set()
        else:
            fell_back.clear()
        _return_memory()
        log.info("Loaded %s on %s.", model, loaded.name)
    return _predictors[model.sha256]


def _return_memory() -> None:
    """Return freed memory to the system: loading uses some 100 MB temporarily, which glibc would keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class LeaseHeartbeat(AbstractContextManager["LeaseHeartbeat"]):
    """Writes progress and renews leases in a thread, so that the network never waits for the database and a long decode
    does not look like a dead worker."""

    def __init__(self, claim: uuid.UUID) -> None:
        self.claim = claim
        self._lock = threading.Lock()
        self._news: dict[uuid.UUID, tuple[int, int]] = {}
        self._held: set[uuid.UUID] = set()
        self._lost: set[uuid.UUID] = set()
        self._moved = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-heartbeat", daemon=True)

    def hold(self, analysis: Analysis) -> None:
        """Renew the lease of a claimed analysis from now on."""
        expected = analysis.expected_patches
        with self._lock:
            self._moved = time.monotonic()
            self._held.add(analysis.pk)
            self._news[analysis.pk] = (0, expected)

    def release(self, pk: uuid.UUID) -> None:
        """Stop renewing the lease of an analysis that has ended."""
        with self._lock:
            self._held.discard(pk)
            self._lost.discard(pk)
            self._news.pop(pk, None)

    def report(self, job: Job, done: int, total: int) -> None:
        """Progress callback of the predictor. Raises Stopping, or JobCancelled if the analysis was deleted."""
        if stopping.is_set():
            raise Stopping
        with self._lock:
            self._moved = time.monotonic()
            if job.key in self._lost:
                raise JobCancelled
            self._news[job.key] = (done, total)  # type: ignore[index]  # the key of our jobs

    def __enter__(self) -> LeaseHeartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        renewed = time.monotonic()
        while not self._end.wait(PROGRESS_EVERY):
            try:
                with self._lock:
                    news, self._news = self._news, {}
                    held = list(self._held)
                    is_moving = time.monotonic() - self._moved < STALL_SECONDS
                for pk, (done, total) in news.items():
                    if not queue.progress(pk, self.claim, done, total):
                        with self._lock:
                            self._lost |= {pk} & self._held
                if held and is_moving and time.monotonic() - renewed >= RENEW_EVERY:
                    queue.renew(self.claim, held)
                    renewed = time.monotonic()
            except Exception:  # whatever fails, the leases must be renewed once the database is back
                log.exception("Progress could not be written; trying again.")
                close_old_connections()
        connection.close()


def process_queue() -> int:
    """Process queued analyses until none is left or TASK_SECONDS have passed. Returns how many ended.

    This is the only background task. It takes no arguments, and several may run at the same time.
    """
    claim = uuid.uuid4()
    ended = 0
    with LeaseHeartbeat(claim) as heartbeat:
        try:
            run = _QueueRun(claim, heartbeat)
            while not run.is_over:
                ended += run.run_one_model()
        except Stopping:
            log.info("Stopping; returned %d analyses to the queue.", queue.release(claim))
            return ended
        except BaseException:
            # The cause is unknown, so the attempt counts: no analysis is tried for ever.
            queue.abandon(claim)
            raise
    if run.time_is_up:
        queue.wake()
    return ended


class _QueueRun:
    """One run of :func:`process_queue`. Analyses of the same model version share batches."""

    def __init__(self, claim: uuid.UUID, heartbeat: LeaseHeartbeat) -> None:
        self.claim = claim
        self.heartbeat = heartbeat
        self.until = time.monotonic() + TASK_SECONDS
        self.is_over = False
        self._next: Analysis | None = None

    @property
    def time_is_up(self) -> bool:
        return time.monotonic() >= self.until

    def _take(self, has_others: bool = False) -> Analysis | None:
        """The analysis put aside, or a newly claimed one; see :func:`inference.jobs.queue.claim_next`."""
        if self._next:
            put_aside, self._next = self._next, None
            return put_aside
        if stopping.is_set() or self.time_is_up:
            return None
        analysis = queue.claim_next(self.claim, has_others)
        if analysis:
            self.heartbeat.hold(analysis)
            _log_step("claimed", analysis.pk, slide=str(analysis.slide_id), attempt=analysis.attempts)
        return analysis

    def run_one_model(self) -> int:
        """Analyse until the queue is empty or the next analysis needs another model version. Returns how many ended."""
        first = self._take()
        if first is None:
            self.is_over = True
            return 0
        try:
            predictor = predictor_for(first.model_version)
        except CheckpointError as error:
            self._fail(first.pk, f"model_{error.code}", f"The model can't be used: {error}")
            return 1
        except Exception as error:  # runtimes raise anything; the owner sees the failure, the log has its cause
            log.exception("The model could not be loaded.")
            self._fail(first.pk, "model_unusable", f"The model could not be loaded ({type(error).__name__}).")
            return 1
        self._next = first
        ended = 0
        for outcome in predictor.run(self._jobs(first.model_version_id), self.heartbeat.report):
            self._end(outcome, predictor.runtime.name)
            ended += 1
        return ended

    def _jobs(self, model_id: uuid.UUID) -> Iterator[Job]:
        has_others = False
        while analysis := self._take(has_others):
            if analysis.model_version_id != model_id:
                self._next = analysis
                return
            yield Job(analysis.pk, _loader(analysis), analysis.overlap)
            # Nothing else is claimed with an analysis during which a worker died, nor with a long one, as another
            # worker may be free before this one.
            if analysis.attempts > 1 or analysis.expected_patches > LONG_PATCHES:
                return
            has_others = True

    def _end(self, outcome: Outcome, runtime: str) -> None:
        pk: uuid.UUID = outcome.job.key  # type: ignore[assignment]  # the key of our jobs
        if outcome.prediction:
            written = queue.finish(pk, self.claim, outcome.prediction, runtime)
            self.heartbeat.release(pk)
            seconds = round(outcome.prediction.seconds, 3)
            _log_step("done" if written else "cancelled", pk, seconds=seconds, runtime=runtime)
        elif isinstance(outcome.error, JobCancelled):
            self.heartbeat.release(pk)
            _log_step("cancelled", pk)
        elif isinstance(outcome.error, ImageError):
            self._fail(pk, outcome.error.code, f"The stored image {outcome.error}.")
        elif isinstance(outcome.error, FileNotFoundError):
            log.error("The stored image of analysis %s is missing.", pk)
            self._fail(pk, "file_missing", "The stored image is missing from the file store.")
        else:
            log.error("Analysis %s failed.", pk, exc_info=outcome.error)
            self._fail(pk, "error", f"The image could not be analysed ({type(outcome.error).__name__}).")

    def _fail(self, pk: uuid.UUID, code: str, message: str) -> None:
        queue.fail(pk, self.claim, code, message)
        self.heartbeat.release(pk)
        _log_step("failed", pk, code=code)


def _log_step(what: str, pk: uuid.UUID, **facts: object) -> None:
    """Log a step of an analysis by its id only, without file name or user."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    log.info("Analysis %s %s (%s).", pk, what, told, extra={"analysis": str(pk), "step": what, **facts})


def _loader(analysis: Analysis) -> Callable[[], Decoded]:
    # Read now, because the loader runs in another thread without a database connection.
    slide = analysis.slide
    storage, name, kind, warnings = slide.file.storage, str(slide.file.name), slide.format, tuple(slide.warnings)

    def load() -> Decoded:
        with storage.open(name) as opened:
            return Decoded(open_stored(opened, settings.UPLOAD_MAX_PIXELS), kind, warnings)

    return load
