"""The web process's side of the decoder: starts it, hands it files, says in time what came of them."""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from django.conf import settings

from inference.engine.image import ImageError

#: Seconds that an upload waits for its turn while all decoders are busy, and a picture for the viewer.
PATIENCE, VIEWER_PATIENCE = 60.0, 10.0
#: Seconds beyond the decoder's own limit after which it counts as broken.
GRACE = 5
MESSAGE = 8192


class DecoderBusy(OSError):
    """All decoders are busy, and were for long."""

    def __init__(self) -> None:
        super().__init__(errno.EBUSY, "all decoders are busy")


_lock = threading.Lock()
_helper: _Helper | None = None
_changed = threading.Condition()
#: How many decoders work for each person, by primary key.
_taken: Counter[int | None] = Counter()


class _Helper:
    """A running :mod:`cases.images.sandbox_worker`; ends by itself when this process does, however that happens."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Nothing of this process's environment: the secrets are in it.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cases.images.sandbox_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=settings.BASE_DIR,
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
            )

    def close(self) -> None:
        self.requests.close()
        if self.pid == os.getpid():
            self.process.kill()
            self.process.wait()


def _running() -> _Helper:
    global _helper
    with _lock:
        # A fork must not share its parent's connection.
        if _helper is None or _helper.pid != os.getpid() or _helper.process.poll() is not None:
            if _helper is not None:
                _helper.close()
            _helper = _Helper()
        return _helper


def warm_up() -> None:
    """Start the decoder now, so that the first upload need not wait for it."""
    _running()


@atexit.register
def shut_down() -> None:
    """End the decoder of this process, if it has one."""
    global _helper
    with _lock:
        if _helper is not None:
            _helper.close()
            _helper = None


def _send(message: bytes, descriptors: list[int]) -> None:
    for attempt in range(2):
        helper = _running()
        try:
            socket.send_fds(helper.requests, [message], descriptors)
            return
        except OSError:
            # It died; a new one is started once.
            if attempt:
                raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.process.wait(1)


def run(work: str, files: list[IO[bytes]], *arguments: Any, person: int | None = None) -> dict[str, Any]:
    """Have one of :data:`cases.images.sandbox_worker.WORK` done on open files, which stay this caller's to close.

    ``person`` is the primary key of whoever has it done: they hold all decoders but one at most.

    Raises :class:`ImageError` for a file that can't be read within the limits, :class:`DecoderBusy` where others keep
    all decoders busy, and ``OSError`` where the store fails (a full disk, for example).
    """
    seconds = settings.DECODER_SECONDS
    request = {
        "work": work,
        "limits": {
            "memory": settings.DECODER_MEMORY,
            "seconds": seconds,
            "pixels": settings.UPLOAD_MAX_PIXELS,
            "reserve": settings.MIN_FREE_DISK,
        },
        "arguments": arguments,
    }
    with _turn(person, PATIENCE if work == "ingest" else VIEWER_PATIENCE):
        answer, theirs = os.pipe()
        try:
            try:
                _send(json.dumps(request).encode(), [theirs, *(file.fileno() for file in files)])
            finally:
                os.close(theirs)
            said = _wait(answer, seconds + GRACE)
        finally:
            os.close(answer)
    result = json.loads(said) if said else {"code": "undecodable", "reason": "can't be read: the decoder failed"}
    if "code" in result:
        raise ImageError(result["code"], result["reason"])
    if "errno" in result:
        raise OSError(result["errno"], result["reason"])
    return dict(result)


@contextlib.contextmanager
def _turn(person: int | None, patience: float) -> Iterator[None]:
    """One of the decoders, for as long as the block runs."""

    def is_free() -> bool:
        return _taken.total() < settings.DECODER_CONCURRENCY and _taken[person] < max(
            1, settings.DECODER_CONCURRENCY - 1
        )

    with _changed:
        if not _changed.wait_for(is_free, patience):
            raise DecoderBusy
        _taken[person] += 1
    try:
        yield
    finally:
        with _changed:
            _taken[person] -= 1
            if not _taken[person]:
                del _taken[person]
            _changed.notify_all()


def _wait(answer: int, seconds: float) -> bytes:
    # Not ``select``, which knows no descriptor beyond 1023.
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    return os.read(answer, MESSAGE) if poll.poll(seconds * 1000) else b""
