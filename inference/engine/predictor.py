"""Analysis of images: cuts patches, runs the network on batches that several images share, and derives results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import domain, tissue
from .domain import DomainResult
from .grid import PATCH, Grid
from .image import Decoded, decode
from .runtime import Outputs, Runtime
from .verdict import SlideVerdict, has_tissue, slide_verdict

Pixels = NDArray[np.uint8]
#: Called after every batch with the job, its number of patches done, and its total number of patches with tissue. May
#: raise :class:`JobCancelled`.
Progress = Callable[["Job", int, int], None]


@dataclass(eq=False)
class Job:
    """One image to analyse. ``load`` returns what was decoded, or pixels uint8 (height, width, 3), and may raise; it
    runs in another thread while the previous image is analysed. ``key`` identifies the job for the caller."""

    key: object
    load: Callable[[], Decoded | Pixels]
    overlap: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """The result for one image. Arrays are in the order of ``grid``.

    ``probabilities`` are uncalibrated, float32 (N, 2), class 0 benign and 1 malignant, each row sums to 1.
    ``activation`` is the malignant minus the benign class activation map, float16 (N, 7, 7), in logits. ``tissue`` is
    the share of tissue, float32 (N,), 0 to 1. Patches without tissue are not run; their probabilities and activations
    are NaN. ``seconds`` is the time from the first patch to the last.
    """

    grid: Grid
    probabilities: NDArray[np.float32]
    activation: NDArray[np.float16]
    tissue: NDArray[np.float32]
    verdict: SlideVerdict
    domain: DomainResult
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: either a prediction or the exception that ended it."""

    job: Job
    prediction: Prediction | None = None
    error: Exception | None = None


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, float32 of the same shape; computed in float64 and rounded once."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponents = np.exp(shifted)
    return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)


class JobCancelled(Exception):
    """Raised by a progress callback to cancel its job, whose outcome then has this error."""


@dataclass(eq=False)
class _Open:
    """An image whose analysis has begun."""

    job: Job
    # Patches are cropped from it one by one: an additional array of 150 megapixels would take 450 MB.
    picture: Image.Image
    #: What decoding said of the file.
    warnings: tuple[str, ...]
    grid: Grid
    domain: Future[DomainResult]
    tissue: NDArray[np.float32]
    #: Indices of the patches with tissue, which are run.
    wanted: list[int]
    logits: NDArray[np.float32]
    activation: NDArray[np.float16]
    started: float = 0.0
    done: int = 0
    failed: bool = False


#: A submitted batch: its patches (image and index), and the network's future outputs.
_Batch = tuple[list[tuple[_Open, int]], Future[Outputs]]


class Predictor:
    """Runs one model version on images. Not thread-safe."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def predict(self, image: bytes | Pixels, overlap: float = 0.0, progress: Progress | None = None) -> Prediction:
        """Analyse one image, given as the bytes of a file or as RGB pixels uint8 (height, width, 3).

        Raises :class:`inference.engine.image.ImageError` if the bytes can't be decoded.
        """
        job = Job(None, lambda: decode(image) if isinstance(image, bytes) else image, overlap)
        (outcome,) = self.run([job], progress)
        if outcome.error:
            raise outcome.error
        assert outcome.prediction is not None
        return outcome.prediction

    def run(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[Outcome]:
        """Analyse jobs one after another; batches are filled up with patches of the next image.

        The next job is loaded while the network runs. If loading a job or running its batch fails, its outcome has the
        error, and the other jobs continue. Outcomes come in the order of the jobs, except that failed jobs and images
        without tissue come immediately. Exceptions of ``progress`` other than JobCancelled end the run.
        """
        queue: deque[tuple[_Open, int]] = deque()
        under_way: deque[_Batch] = deque()
        with ThreadPoolExecutor(self.runtime.streams, thread_name_prefix="network") as network:
            for job, future in self._loading(jobs):
                if not future.done():
                    # Finish the images that are loaded while waiting for this one.
                    while queue:
                        under_way.append(self._start(queue, network))
                    while under_way:
                        yield from self._collect(under_way, progress)
                loaded = self._result(future)
                if isinstance(loaded, Exception):
                    yield Outcome(job, error=loaded)
                    continue
                if not loaded.wanted:
                    yield self._close(loaded)
                    continue
                queue.extend((loaded, index) for index in loaded.wanted)
                while len(queue) >= self.runtime.batch_size:
                    under_way.append(self._start(queue, network))
                    if len(under_way) > self.runtime.streams:
                        yield from self._collect(under_way, progress)
            while queue:
                under_way.append(self._start(queue, network))
            while under_way:
                yield from self._collect(under_way, progress)

    def _loading(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Future[_Open]]]:
        """Each job with its image, which is loaded in a thread. When one is yielded, loading of the next has begun."""
        with (
            ThreadPoolExecutor(1, thread_name_prefix="decode") as pool,
            ThreadPoolExecutor(1, thread_name_prefix="domain") as judge,
        ):
            ahead: tuple[Job, Future[_Open]] | None = None
            for job in jobs:
                following = (job, pool.submit(self._open, job, judge))
                if ahead:
                    yield ahead
                ahead = following
            if ahead:
                yield ahead

    @staticmethod
    def _result(future: Future[_Open]) -> _Open | Exception:
        try:
            return future.result()
        except Exception as error:  # noqa: BLE001  whatever a loader raises ends only its own job
            return error

    def _open(self, job: Job, judge: ThreadPoolExecutor) -> _Open:
        loaded = job.load()
        read = loaded if isinstance(loaded, Decoded) else Decoded(Image.fromarray(loaded), "")
        picture = read.image
        grid = Grid(*picture.size, job.overlap)
        # Its result is needed only at the end, so the network does not wait for it.
        judged = judge.submit(domain.check, picture, self.runtime.metadata)
        shares = tissue.shares(picture, grid)
        return _Open(
            job,
            picture,
            read.warnings,
            grid,
            judged,
            shares,
            np.flatnonzero(has_tissue(shares)).tolist(),
            np.full((len(grid), 2), np.nan, dtype=np.float32),
            np.full((len(grid), 7, 7), np.nan, dtype=np.float16),
        )

    def _start(self, queue: deque[tuple[_Open, int]], network: ThreadPoolExecutor) -> _Batch:
        """Cut the patches of the next batch and submit it to the network."""
        taken: list[tuple[_Open, int]] = []
        while queue and len(taken) < self.runtime.batch_size:
            image, index = queue.popleft()
            if not image.failed:
                taken.append((image, index))
        # Unused rows of the last batch stay black; they do not affect the other rows.
        batch = np.zeros((self.runtime.batch_size, PATCH, PATCH, 3), dtype=np.uint8)
        for slot, (image, index) in enumerate(taken):
            image.started = image.started or time.perf_counter()
            image.grid.crop(image.picture, index, batch[slot])
        return taken, network.submit(self.runtime.infer, batch)

    def _collect(self, under_way: deque[_Batch], progress: Progress | None) -> Iterator[Outcome]:
        """Wait for the oldest batch and yield the outcomes of the images that it completes."""
        taken, answer = under_way.popleft()
        images = [image for image in dict.fromkeys(image for image, _ in taken) if not image.failed]
        try:
            logits, cams = answer.result()
        except Exception as error:  # noqa: BLE001  whatever the runtime raises ends the images of this batch
            for image in images:
                image.failed = True
                yield Outcome(image.job, error=error)
            return
        for slot, (image, index) in enumerate(taken):
            image.logits[index] = logits[slot]
            image.activation[index] = cams[slot, 1] - cams[slot, 0]
            image.done += 1
        for image in images:
            try:
                if progress:
                    progress(image.job, image.done, len(image.wanted))
            except JobCancelled as error:
                image.failed = True
                yield Outcome(image.job, error=error)
                continue
            if image.done == len(image.wanted):
                yield self._close(image)

    def _close(self, image: _Open) -> Outcome:
        try:
            if not np.isfinite(image.logits[image.wanted]).all():
                raise FloatingPointError("the network's output is not finite")
            probabilities = softmax(image.logits)
            seconds = time.perf_counter() - image.started if image.started else 0.0
            judged = image.domain.result()
            verdict = slide_verdict(probabilities, self.runtime.metadata, judged, image.tissue)
            verdict = replace(verdict, warnings=(*verdict.warnings, *image.warnings))
        except Exception as error:  # noqa: BLE001  a failure of the domain check or the result ends only this image
            return Outcome(image.job, error=error)
        found = Prediction(image.grid, probabilities, image.activation, image.tissue, verdict, judged, seconds)
        return Outcome(image.job, found)
