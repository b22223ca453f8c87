"""From images to patch probabilities: several images share batches of one fixed shape."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import domain
from .domain import DomainResult
from .grid import PATCH, Grid
from .image import decode
from .runtime import Runtime
from .verdict import SlideVerdict, slide_verdict

Pixels = NDArray[np.uint8]
#: Called after every batch with the job, its patches done, and its patches in all.
Progress = Callable[["Job", int, int], None]


@dataclass(eq=False)
class Job:
    """One image to analyse. ``load`` returns RGB, uint8 (height, width, 3), and may raise; it runs in
    another thread while the network is busy with the image before. ``key`` is the caller's."""

    key: object
    load: Callable[[], Pixels]
    overlap: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    ``probabilities`` are raw, float32 (N, 2), rows sum to 1, class 0 benign and 1 malignant;
    ``activation`` is the malignant minus the benign class activation map of each patch, float16
    (N, 7, 7), in logits; both in the order of ``grid``. ``seconds`` is from the first patch cut to
    the last patch done.
    """

    grid: Grid
    probabilities: NDArray[np.float32]
    activation: NDArray[np.float16]
    verdict: SlideVerdict
    domain: DomainResult
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A job's end: a prediction, or the exception that its ``load`` raised."""

    job: Job
    prediction: Prediction | None = None
    error: Exception | None = None


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, in float64 and rounded once; float32 of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponents = np.exp(shifted)
    return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)


@dataclass(eq=False)
class _Open:
    """An image whose patches are on their way."""

    job: Job
    rgb: Pixels
    grid: Grid
    domain: DomainResult
    padded: Pixels
    logits: NDArray[np.float32]
    activation: NDArray[np.float16]
    started: float = 0.0
    done: int = 0


class Predictor:
    """Runs one model version over images. Not thread-safe: one predictor a process."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._batch = np.zeros((runtime.batch_size, PATCH, PATCH, 3), dtype=np.uint8)

    def predict(self, image: bytes | Pixels, overlap: float = 0.0, progress: Progress | None = None) -> Prediction:
        """Analyse one image, given as a file's bytes or as RGB uint8 (height, width, 3).

        Raises :class:`inference.engine.image.ImageError` for bytes that are no readable image.
        """
        job = Job(None, lambda: decode(image).rgb if isinstance(image, bytes) else image, overlap)
        (outcome,) = self.run([job], progress)
        if outcome.error:
            raise outcome.error
        assert outcome.prediction is not None
        return outcome.prediction

    def run(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[Outcome]:
        """Analyse jobs one after another, filling each batch with patches of the next image.

        ``jobs`` is read one ahead of the network. A job that can't be loaded ends as an outcome with
        its error; the others go on. Outcomes come in the order of the jobs, but for failed ones,
        which come at once.
        """
        queue: deque[tuple[_Open, int]] = deque()
        for job, loaded in self._loaded(jobs):
            if isinstance(loaded, Exception):
                yield Outcome(job, error=loaded)
                continue
            queue.extend((loaded, index) for index in range(len(loaded.grid)))
            while len(queue) >= self.runtime.batch_size:
                yield from self._step(queue, progress)
        if queue:
            yield from self._step(queue, progress)

    def _loaded(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, _Open | Exception]]:
        """Each job with its opened image, the next one loading meanwhile in a thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
            ahead: tuple[Job, Future[_Open]] | None = None
            for job in jobs:
                following = (job, pool.submit(self._open, job))
                if ahead:
                    yield self._result(*ahead)
                ahead = following
            if ahead:
                yield self._result(*ahead)

    @staticmethod
    def _result(job: Job, future: Future[_Open]) -> tuple[Job, _Open | Exception]:
        try:
            return job, future.result()
        except Exception as error:  # whatever a loader raises belongs to its job alone
            return job, error

    def _open(self, job: Job) -> _Open:
        rgb = job.load()
        grid = Grid(rgb.shape[1], rgb.shape[0], job.overlap)
        count = len(grid)
        return _Open(
            job,
            rgb,
            grid,
            domain.check(rgb, self.runtime.metadata),
            grid.pad(rgb),
            np.empty((count, 2), dtype=np.float32),
            np.empty((count, 7, 7), dtype=np.float16),
        )

    def _step(self, queue: deque[tuple[_Open, int]], progress: Progress | None) -> Iterator[Outcome]:
        """One batch through the network; yields the images it completes."""
        taken = [queue.popleft() for _ in range(min(len(queue), self.runtime.batch_size))]
        for slot, (image, index) in enumerate(taken):
            image.started = image.started or time.perf_counter()
            image.grid.cut(image.padded, index, self._batch[slot])
        # The rest of a last batch keeps old pixels: rows don't influence each other.
        logits, cams = self.runtime.infer(self._batch)
        for slot, (image, index) in enumerate(taken):
            image.logits[index] = logits[slot]
            image.activation[index] = cams[slot, 1] - cams[slot, 0]
            image.done += 1
        for image in dict.fromkeys(image for image, _ in taken):
            if progress:
                progress(image.job, image.done, len(image.grid))
            if image.done == len(image.grid):
                yield Outcome(image.job, self._close(image))

    def _close(self, image: _Open) -> Prediction:
        probabilities = softmax(image.logits)
        verdict = slide_verdict(probabilities, self.runtime.metadata, image.domain)
        seconds = time.perf_counter() - image.started
        return Prediction(image.grid, probabilities, image.activation, verdict, image.domain, seconds)
