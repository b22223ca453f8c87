"""The process that decodes uploaded files. It holds neither Django nor secrets nor a database connection.

The web process starts one such process (see :mod:`cases.images.sandbox`) and passes it open files. Each request is
handled in a fork with limits on memory, processor time and wall-clock time. A file that crashes, hangs or bloats the
decoder therefore affects only its own request. A fork takes milliseconds, because the decoders are loaded already.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from PIL import Image

from inference.engine.image import ImageError, decode, open_stored, preload, write_png

THUMBNAIL = (320, 320)
#: Longest message: a request of a few hundred bytes, or an answer.
MESSAGE = 8192

#: Characters of a traceback that are reported: an answer has to fit into :data:`MESSAGE`.
TRACEBACK = 3000
#: Pages that are named.
PAGES = 500


@dataclass(frozen=True)
class Limits:
    """Limits of one request: bytes of address space, seconds, pixels, and bytes to leave free on the disk."""

    memory: int
    seconds: int
    pixels: int
    reserve: int


class _HashingFile:
    """A file that is hashed while it is written. Raises ``OSError`` once only the reserve is left on the disk."""

    def __init__(self, file: IO[bytes], reserve: int) -> None:
        self.file = file
        self.reserve = reserve
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        _require_space(self.file, len(data), self.reserve)
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def ingest(limits: Limits, upload: int, png: int, small: int, page: int | None = None) -> dict[str, Any]:
    """Rebuild an upload as a PNG of its pixels alone, and draw its thumbnail.

    ``page`` is one of the ``pages`` that an earlier answer named.
    """
    with open(upload, "rb") as source:
        read = decode(source, limits.pixels, page)
    image = read.image
    with open(png, "wb") as out:
        hashed = _HashingFile(out, limits.reserve)
        write_png(image, hashed)  # type: ignore[arg-type]  # Pillow uses only write and flush
    width, height = image.size
    _shrink(image, small, THUMBNAIL, 85)
    return {
        "format": read.format,
        "width": width,
        "height": height,
        "sha256": hashed.digest.hexdigest(),
        "warnings": read.warnings,
        "pages": read.pages[:PAGES],
    }


def pyramid(limits: Limits, stored: int, archive: int, tile: int, overlap: int, overview: int) -> dict[str, Any]:
    """Deep Zoom tiles of a PNG that :func:`ingest` wrote, as a stored zip of JPEGs.

    ``level/column_row.jpg`` holds a square of ``tile`` pixels and ``overlap`` more towards each neighbour. The highest
    level is the slide itself, each below it half as large, the lowest one tile; ``overview.jpg`` is the largest of at
    most ``overview`` pixels a side. Needs 5 bytes for each of the slide's pixels.
    """
    with open(stored, "rb") as source:
        image = open_stored(source, limits.pixels)
    level = (max(image.size) - 1).bit_length()
    seen_whole = False
    with open(archive, "wb") as file, zipfile.ZipFile(file, "w") as out:
        while True:
            width, height = image.size
            for row, top in enumerate(range(0, height, tile)):
                for column, left in enumerate(range(0, width, tile)):
                    right, bottom = min(left + tile + overlap, width), min(top + tile + overlap, height)
                    box = (max(0, left - overlap), max(0, top - overlap), right, bottom)
                    _require_space(file, 0, limits.reserve)
                    _add_jpeg(out, f"{level}/{column}_{row}.jpg", image.crop(box))
            if not seen_whole and max(image.size) <= overview:
                _add_jpeg(out, "overview.jpg", image)
                seen_whole = True
            if max(image.size) <= tile:
                return {}
            image = image.reduce(2)
            level -= 1


def crop(limits: Limits, stored: int, png: int, box: list[int]) -> dict[str, Any]:
    """The rectangle ``box`` (left, top, right, bottom) of a stored PNG, as PNG."""
    with open(stored, "rb") as source:
        image = open_stored(source, limits.pixels)
    with open(png, "wb") as out:
        write_png(image.crop((box[0], box[1], box[2], box[3])), out)
    return {}


WORK: dict[str, Callable[..., dict[str, Any]]] = {"ingest": ingest, "pyramid": pyramid, "crop": crop}


def _require_space(file: IO[bytes], wanted: int, reserve: int) -> None:
    """Others write at the same time, so it is asked anew for each piece. Raises ``OSError`` (ENOSPC)."""
    disk = os.fstatvfs(file.fileno())
    if disk.f_bavail * disk.f_frsize - wanted < reserve:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _add_jpeg(archive: zipfile.ZipFile, name: str, image: Image.Image) -> None:
    out = BytesIO()
    # Full resolution in colour too: stains are told apart by it.
    image.save(out, "JPEG", quality=90, subsampling=0)
    # Without the time of day, so that the same slide gives the same file.
    archive.writestr(zipfile.ZipInfo(name), out.getvalue())


def _shrink(image: Image.Image, out: int, size: tuple[int, int], quality: int) -> None:
    image.thumbnail(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    with open(out, "wb") as file:
        image.save(file, "JPEG", quality=quality)


def _limit(limits: Limits) -> None:
    """Let the kernel end this process if it uses too much memory or time."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limits.seconds)


def _handle(request: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """The answer to a request: a result, ``code`` and ``reason`` of a refusal, ``errno``, or a ``traceback``."""
    limits = Limits(**request["limits"])
    _limit(limits)
    try:
        return WORK[request["work"]](limits, *files, *request["arguments"])
    except ImageError as error:
        return {"code": error.code, "reason": str(error)}
    except MemoryError:
        return {"code": "undecodable", "reason": "can't be read: decoding it takes too much memory"}
    except OSError as error:
        # Caused by the file store and not by the image: a full or read-only disk, for example.
        return {"errno": error.errno or 0, "reason": os.strerror(error.errno or 0)}
    except Exception:  # noqa: BLE001  an error in this program; the web process logs it
        return {"traceback": traceback.format_exc()[-TRACEBACK:]}


def serve(requests: socket.socket) -> None:
    """Handle requests until the web process closes its end of the socket, or dies.

    A message is JSON with ``work``, ``limits`` and ``arguments``. It is accompanied by file descriptors: first a pipe
    for the answer, then the files. A fork that dies closes the pipe without an answer.
    """
    # The kernel removes forks that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MESSAGE, 8)
        if not message:
            return
        if os.fork() == 0:
            try:
                requests.close()
                answer, *files = descriptors
                os.write(answer, json.dumps(_handle(json.loads(message), files)).encode())
            finally:
                # Skips whatever the interpreter does at its exit, such as flushing files inherited from the server.
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    # Otherwise every fork would load them.
    preload()
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited)
