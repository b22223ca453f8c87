"""Storing files, and sending them once a view has checked access."""

from __future__ import annotations

import logging
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.db.models.fields.files import FieldFile
from django.http import FileResponse, Http404, HttpResponse
from django.http.response import HttpResponseBase
from prometheus_client import Counter

log = logging.getLogger(__name__)

#: Registered in :mod:`cases.monitoring.metrics`.
MISSING = Counter("histopath_missing_files", "Attempts to read a stored file that is missing", registry=None)


class FileMissing(Http404):
    """A stored file is missing, which is logged and counted."""

    def __init__(self, name: str) -> None:
        super().__init__("The stored image is missing from the file store.")
        log.error("The stored file %s is missing.", name)
        MISSING.inc()


class LocalFile(File):
    """A file on disk that a storage on the same disk moves instead of copying."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb"), str(path))

    def temporary_file_path(self) -> str:
        return str(self.name)


def open_stored(file: FieldFile) -> File:
    """A stored file, open for reading. Raises :class:`FileMissing`, or ``OSError`` if the store fails."""
    name = str(file.name)
    try:
        return file.storage.open(name)
    except FileNotFoundError as error:
        raise FileMissing(name) from error


def is_missing(file: FieldFile) -> bool:
    """Whether the store certainly lacks the file; False if it does not respond."""
    try:
        return not file.storage.exists(str(file.name))
    except OSError:
        log.exception("The file store failed.")
        return False


def send(file: FieldFile, content_type: str) -> HttpResponseBase:
    """The file as a response, sent by nginx if ACCEL_PREFIX is set (see docs/operations.md).

    Raises :class:`FileMissing`.
    """
    if settings.ACCEL_PREFIX:
        if not file.storage.exists(str(file.name)):
            raise FileMissing(str(file.name))
        answer: HttpResponseBase = HttpResponse(content_type=content_type)
        answer["X-Accel-Redirect"] = f"{settings.ACCEL_PREFIX}/{file.name}"
    else:
        answer = FileResponse(open_stored(file), content_type=content_type)
    answer["Cache-Control"] = "private, no-store"
    return answer
