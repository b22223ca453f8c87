"""What runs in a worker process: claims, predicts, reports. Imports torch only when it predicts."""

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
from inference.engine.predictor import Dropped, Job, Outcome, Predictor
from inference.jobs import queue
from inference.models import Analysis, ModelVersion
from inference.registry import active_model, verify

log = logging.getLogger(__name__)

#: Seconds after which a task ends and passes on to a fresh one, so that none runs for ever.
TURN = 60
#: Seconds between two writes of progress, and between two renewals of leases.
PROGRESS_EVERY = 0.5
RENEW_EVERY = 5.0
#: Seconds without a sign of progress after which a claim is let go: longer than any image takes to be read and decoded.
SILENCE = 600.0
#: Patches, those of 20 single fields, from which on nothing more is claimed beside an image: some seconds.
LONG = 240


class SharedFlag:
    """Set in one process and read in all that it forked. It has no lock that somebody killed could leave taken."""

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

#: Set by a worker process whose faster form failed its check, so that it runs fp32; told by the cluster's heartbeat.
fell_back = SharedFlag()

_predictors: dict[str, Predictor] = {}


class Stopping(Exception):
    """The cluster is going down; what is held goes back to the queue."""


def connect() -> None:
    """Load the model as soon as a worker process exists, so that the first image need not wait."""
    post_spawn.connect(_warm_up, dispatch_uid="inference.warm_up")


def _warm_up(**kwargs: Any) -> None:
    try:
        predictor_for(active_model())
    except Exception as error:  # reported again, to the owner, when an analysis needs the model
        log.warning("The model could not be loaded yet: %s", error)
    finally:
        connection.close()


def predictor_for(model: ModelVersion) -> Predictor:
    """The predictor of a model version, loaded once a process; another version replaces it.

    Raises :class:`inference.engine.checkpoint.CheckpointError`.
    """
    if model.sha256 not in _predictors:
        from inference.engine import runtime

        verify(model)
        _predictors.clear()
        loaded = runtime.load(Path(model.path), settings.ANALYSIS_DEVICE, settings.ANALYSIS_THREADS)
        _predictors[model.sha256] = Predictor(loaded)
        if loaded.problem:
            fell_back.set()
        else:
            fell_back.clear()
        _return_memory()
        log.info("Loaded %s on %s.", model, loaded.name)
    return _predictors[model.sha256]


def _return_memory() -> None:
    """Give back to the system what loading took for a moment: some 100 MB with torch. glibc alone keeps it, and can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class LeaseHeartbeat(AbstractContextManager["LeaseHeartbeat"]):
    """Writes progress and renews leases from a thread, so that the network never waits for the
    database and a long decode does not look like a dead worker."""

    def __init__(self, claim: uuid.UUID) -> None:
        self.claim = claim
        self._lock = threading.Lock()
        self._news: dict[uuid.UUID, tuple[int, int]] = {}
        self._held: set[uuid.UUID] = set()
        self._lost: set[uuid.UUID] = set()
        self._moved = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def hold(self, analysis: Analysis) -> None:
        expected = analysis.expected_patches
        with self._lock:
            self._moved = time.monotonic()
            self._held.add(analysis.pk)
            self._news[analysis.pk] = (0, expected)

    def release(self, pk: uuid.UUID) -> None:
        with self._lock:
            self._held.discard(pk)
            self._lost.discard(pk)
            self._news.pop(pk, None)

    def report(self, job: Job, done: int, total: int) -> None:
        """Progress callback of the predictor."""
        if stopping.is_set():
            raise Stopping
        with self._lock:
            self._moved = time.monotonic()
            if job.key in self._lost:
                # Others wait: what nobody wants any more is not worked on to its end.
                raise Dropped
            self._news[job.key] = (done, total)  # type: ignore[index]

    def __enter__(self) -> LeaseHeartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._end.wait(PROGRESS_EVERY):
            try:
                with self._lock:
                    news, self._news = self._news, {}
                    held = list(self._held)
                    is_moving = time.monotonic() - self._moved < SILENCE
                for pk, (done, total) in news.items():
                    if not queue.progress(pk, self.claim, done, total):
                        with self._lock:
                            self._lost |= {pk} & self._held
                if held and is_moving and time.monotonic() - renewed >= RENEW_EVERY:
                    queue.renew(self.claim, held)
                    renewed = time.monotonic()
            except Exception:
                log.exception("Progress could not be written; trying again.")
                close_old_connections()
        connection.close()


def process_queue() -> int:
    """Work on waiting analyses until none is left or the turn is over. Returns how many ended.

    This is the only background task. It takes no argument and may run any number of times at once.
    """
    claim = uuid.uuid4()
    ended = 0
    with LeaseHeartbeat(claim) as keeper:
        try:
            turn = _QueueRun(claim, keeper)
            while not turn.is_over:
                ended += turn.run_one_model()
        except Stopping:
            log.info("Stopping; handing back %d analyses.", queue.release(claim))
            return ended
        except BaseException:
            # Who knows what it was: each time counts, so that nothing is tried for ever.
            queue.abandon(claim)
            raise
    if turn.time_is_up:
        queue.wake()
    return ended


class _QueueRun:
    """One run of :func:`process_queue`. Analyses of the same model version share batches."""

    def __init__(self, claim: uuid.UUID, keeper: LeaseHeartbeat) -> None:
        self.claim = claim
        self.keeper = keeper
        self.until = time.monotonic() + TURN
        self.is_over = False
        self._next: Analysis | None = None

    @property
    def time_is_up(self) -> bool:
        return time.monotonic() >= self.until

    def _take(self, beside: bool = False) -> Analysis | None:
        """The analysis put aside, or a newly claimed one; see :func:`inference.jobs.queue.claim_next`."""
        if self._next:
            put_aside, self._next = self._next, None
            return put_aside
        if stopping.is_set() or self.time_is_up:
            return None
        analysis = queue.claim_next(self.claim, beside)
        if analysis:
            self.keeper.hold(analysis)
            _note("claimed", analysis.pk, slide=str(analysis.slide_id), attempt=analysis.attempts)
        return analysis

    def run_one_model(self) -> int:
        """Analyse until the queue is empty or another model version is asked for."""
        first = self._take()
        if first is None:
            self.is_over = True
            return 0
        try:
            predictor = predictor_for(first.model_version)
        except CheckpointError as error:
            self._fail(first.pk, f"model_{error.code}", f"The model can't be used: {error}")
            return 1
        except Exception as error:
            log.exception("The model could not be loaded.")
            self._fail(first.pk, "model_unusable", f"The model could not be loaded ({type(error).__name__}).")
            return 1
        self._next = first
        ended = 0
        for outcome in predictor.run(self._jobs(first.model_version_id), self.keeper.report):
            self._end(outcome, predictor.runtime.name)
            ended += 1
        return ended

    def _jobs(self, model_id: uuid.UUID) -> Iterator[Job]:
        beside = False
        while analysis := self._take(beside):
            if analysis.model_version_id != model_id:
                self._next = analysis
                return
            yield Job(analysis.pk, _loader(analysis), analysis.overlap)
            # Worked on alone: a worker died of it, or beside it; or another worker may be free before this one is.
            if analysis.attempts > 1 or analysis.expected_patches > LONG:
                return
            beside = True

    def _end(self, outcome: Outcome, runtime: str) -> None:
        pk: uuid.UUID = outcome.job.key  # type: ignore[assignment]
        if outcome.prediction:
            written = queue.finish(pk, self.claim, outcome.prediction, runtime)
            self.keeper.release(pk)
            seconds = round(outcome.prediction.seconds, 3)
            _note("done" if written else "gone meanwhile", pk, seconds=seconds, runtime=runtime)
        elif isinstance(outcome.error, Dropped):
            self.keeper.release(pk)
            _note("gone meanwhile", pk)
        elif isinstance(outcome.error, ImageError):
            self._fail(pk, outcome.error.code, f"The stored image {outcome.error}.")
        elif isinstance(outcome.error, FileNotFoundError):
            self._fail(pk, "file_missing", "The stored image is missing from the file store.")
        else:
            log.error("Analysis %s failed.", pk, exc_info=outcome.error)
            self._fail(pk, "error", f"The image could not be analysed ({type(outcome.error).__name__}).")

    def _fail(self, pk: uuid.UUID, code: str, message: str) -> None:
        queue.fail(pk, self.claim, code, message)
        self.keeper.release(pk)
        _note("failed", pk, code=code)


def _note(what: str, pk: uuid.UUID, **facts: object) -> None:
    """One line a step, by number alone: no file name, no person."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    log.info("Analysis %s %s (%s).", pk, what, told, extra={"analysis": str(pk), "step": what, **facts})


def _loader(analysis: Analysis) -> Callable[[], Decoded]:
    # Read here: the loader runs in another thread, without a database connection.
    slide = analysis.slide
    storage, name, kind, warnings = slide.file.storage, str(slide.file.name), slide.format, tuple(slide.warnings)

    def load() -> Decoded:
        with storage.open(name) as opened:
            return Decoded(open_stored(opened, settings.UPLOAD_MAX_PIXELS), kind, warnings)

    return load
