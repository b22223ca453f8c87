"""Storing files, and sending them once a view has checked access."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage
from django.http import FileResponse, Http404, HttpResponse
from django.http.response import HttpResponseBase


class LocalFile(File):
    """A file on disk that a storage on the same disk moves instead of copying."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb"), str(path))

    def temporary_file_path(self) -> str:
        return str(self.name)


def send(storage: Storage, name: str | None, content_type: str) -> HttpResponseBase:
    """The file ``name`` as a response, sent by nginx if ACCEL_PREFIX is set (see docs/operations.md).

    Raises ``Http404`` if it is missing.
    """
    if settings.ACCEL_PREFIX:
        if not name or not storage.exists(name):
            raise Http404("The file is missing from the store.")
        answer: HttpResponseBase = HttpResponse(content_type=content_type)
        answer["X-Accel-Redirect"] = f"{settings.ACCEL_PREFIX}/{name}"
    else:
        try:
            answer = FileResponse(storage.open(name or ""), content_type=content_type)
        except FileNotFoundError as error:
            raise Http404("The file is missing from the store.") from error
    answer["Cache-Control"] = "private, no-store"
    return answer
