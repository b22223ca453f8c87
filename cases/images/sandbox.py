"""The web process's side of the decoder: starts its process, passes it files and waits for the answer."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import IO, Any

from django.conf import settings

from inference.engine.image import ImageError

log = logging.getLogger(__name__)

#: Seconds beyond the decoder's own limit after which no answer is expected any more.
GRACE = 5
MESSAGE = 8192


class DecoderFailed(RuntimeError):
    """An error in the decoder's program, which is logged; the file may be in order."""

    def __init__(self) -> None:
        super().__init__("could not be read because of an error on the server")


_lock = threading.Lock()
_server: _Server | None = None


class _Server:
    """A running :mod:`cases.images.sandbox_worker`, which ends when this process ends, even if it is killed."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # This process's environment is not passed on, because it contains secrets.
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


def _running() -> _Server:
    global _server
    with _lock:
        # A fork must not share its parent's connection.
        if _server is None or _server.pid != os.getpid() or _server.process.poll() is not None:
            if _server is not None:
                _server.close()
            _server = _Server()
        return _server


def warm_up() -> None:
    """Start the decoder, so that the first upload does not wait for it."""
    _running()


@atexit.register
def shut_down() -> None:
    """End the decoder of this process, if it has one."""
    global _server
    with _lock:
        if _server is not None:
            _server.close()
            _server = None


def _send(message: bytes, descriptors: list[int]) -> None:
    for attempt in range(2):
        server = _running()
        try:
            socket.send_fds(server.requests, [message], descriptors)
            return
        except OSError:
            # It died. One attempt is made with a new one.
            if attempt:
                raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(1)


def run(work: str, files: list[IO[bytes]], *arguments: Any) -> dict[str, Any]:
    """Run one of :data:`cases.images.sandbox_worker.WORK` on open files, which the caller closes. Callers hold a slot
    of :data:`cases.limits.concurrency.MEMORY`.

    Raises :class:`ImageError` for a file that can't be read within the limits, :class:`DecoderFailed` for an error in
    the decoder's program, and ``OSError`` if the store fails, for example because of a full disk.
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
    answer, theirs = os.pipe()
    started = time.monotonic()
    try:
        try:
            _send(json.dumps(request).encode(), [theirs, *(file.fileno() for file in files)])
        finally:
            os.close(theirs)
        said = _wait(answer, seconds + GRACE)
    finally:
        os.close(answer)
    if not said:
        # The fork that handled the request has died; the kernel ends it at its limit of time.
        is_slow = time.monotonic() - started >= seconds
        reason = "decoding it takes too long" if is_slow else "it makes the decoder crash"
        raise ImageError("undecodable", f"can't be read: {reason}")
    result = json.loads(said)
    if "code" in result:
        raise ImageError(result["code"], result["reason"])
    if "errno" in result:
        raise OSError(result["errno"], result["reason"])
    if "traceback" in result:
        log.error("The decoder failed because of an error in its program.\n%s", result["traceback"])
        raise DecoderFailed
    return dict(result)


def _wait(answer: int, seconds: float) -> bytes:
    # ``select`` can't handle descriptors beyond 1023.
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    return os.read(answer, MESSAGE) if poll.poll(seconds * 1000) else b""
