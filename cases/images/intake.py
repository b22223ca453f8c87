"""From an uploaded file to stored pixels: checked, decoded, stripped of everything else, and written to the store."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import unicodedata
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, TemporaryFileUploadHandler

from cases.images import sandbox, tiles
from cases.images.serving import LocalFile
from cases.limits.concurrency import MEMORY
from cases.limits.disk_space import require_space
from cases.models import Case, Slide, random_name, random_thumbnail_name
from cases.models.folding import composed
from inference.engine.image import ImageError

log = logging.getLogger(__name__)

#: Seconds that an upload waits until it may be decoded.
PATIENCE = 60.0


class SizeLimitUploadHandler(FileUploadHandler):
    """Drops what exceeds the limits, before Django's own upload handlers store it.

    Of a file that is too large, one chunk beyond the limit is passed on, so that the form can name the file in its
    error. Files of anonymous users are dropped entirely: Django reads a form with its files to find the CSRF token,
    before any view checks who sent it.
    """

    def handle_raw_input(self, input_data: Any, META: dict, content_length: int, *args: Any, **kwargs: Any) -> None:  # noqa: N803
        # The API sets the user of a token before it reads the body.
        user = getattr(self.request, "user", None)
        self.is_wanted = user is not None and user.is_authenticated
        if self.is_wanted:
            require_space(content_length)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if not self.is_wanted or start > settings.UPLOAD_MAX_BYTES:
            return None
        # Checked for each chunk, because other uploads arrive at the same time.
        require_space(len(raw_data))
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None


class AnonymousTempUploadHandler(TemporaryFileUploadHandler):
    """Like Django's handler, but the file on disk does not carry the uploaded name, which may be too long and would
    appear in logged errors."""

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, "upload", *args, **kwargs)
        self.file_name = self.file.name = file_name


@dataclass(frozen=True)
class Upload:
    """An uploaded file with its cleaned name and the SHA-256 of its bytes."""

    file: UploadedFile
    name: str
    sha256: str

    @classmethod
    def of(cls, file: UploadedFile) -> Upload:
        """Read the file once to hash it."""
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        file.seek(0)
        return cls(file, clean_name(file.name), digest.hexdigest())


@dataclass(frozen=True)
class Rejected:
    """A file that was not accepted: its name, a stable code, and the reason as the rest of a sentence."""

    filename: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.filename} {self.reason}"


def clean_name(name: str | None) -> str:
    """A file's name without folders and control characters, composed (NFC), at most 255 characters."""
    readable = (" " if unicodedata.category(char).startswith("C") else char for char in composed(name or ""))
    last = "".join(readable).replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    cleaned = re.sub(r"\s+", " ", last).strip()[:255].rstrip()
    return "unnamed" if cleaned in ("", ".", "..") else cleaned


def store(case: Case, upload: Upload, page: int | None = None) -> Slide:
    """Decode an upload, write its pixels and a thumbnail to the store, and return the slide, not yet saved.

    ``page`` is 0 if all pages of the file become slides, and the number of the page for each of the others, which the
    first slide's ``other_pages`` name. The stored PNG is rebuilt from the pixels, so no metadata of the upload
    survives. The web process itself never decodes the image. Raises :class:`ImageError` if the file can't be used,
    :class:`cases.limits.quotas.CapacityExceeded` if too many images are being decoded, or ``OSError`` if the store
    fails; the store then holds nothing of the upload.
    """
    if (upload.file.size or 0) > settings.UPLOAD_MAX_BYTES:
        raise ImageError("too_large", f"is larger than {settings.UPLOAD_MAX_BYTES // 2**20} MB")
    require_space()
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder:
        png, small = Path(folder, "slide.png"), Path(folder, "thumbnail.jpg")
        with _on_disk(upload.file, folder) as source, png.open("w+b") as png_file, small.open("w+b") as small_file:
            with MEMORY.hold(case.owner_id, PATIENCE):
                made = sandbox.run("ingest", [source, png_file, small_file], page)
            size = os.fstat(source.fileno()).st_size
        is_page = page is not None and len(made["pages"]) > 1
        number = (page or made["pages"][0]) if is_page else None
        slide = Slide(
            case=case,
            original_name=f"{upload.name[:240]} (page {number})" if number else upload.name,
            page=number,
            sha256=upload.sha256,
            stored_sha256=made["sha256"],
            format=made["format"],
            size=size,
            width=made["width"],
            height=made["height"],
            warnings=made["warnings"],
            magnification=case.magnification,
        )
        slide.other_pages = made["pages"][1:]
        # The names are set before the files are written, so that files cut short by a full disk can be deleted.
        slide.file, slide.thumbnail = random_name(slide, upload.name), random_thumbnail_name(slide, upload.name)
        require_space()
        try:
            with LocalFile(png) as whole, LocalFile(small) as reduced:
                slide.file.storage.save(slide.file.name, whole)
                slide.thumbnail.storage.save(slide.thumbnail.name, reduced)
        except BaseException:  # whatever happens, no half-written file stays; the error is raised again
            delete_files(slide)
            raise
    return slide


def _on_disk(upload: UploadedFile, folder: str) -> BufferedReader:
    """The upload as an open file that another process can read."""
    if hasattr(upload, "temporary_file_path"):
        return open(upload.temporary_file_path(), "rb")
    path = Path(folder, "upload")
    with path.open("wb") as out:
        upload.seek(0)
        for chunk in upload.chunks():
            out.write(chunk)
    return path.open("rb")


def files_of(slide: Slide) -> list[str]:
    """Names of all files of a slide in the store, including its tiles, which may not exist yet."""
    return [name for name in (slide.file.name, slide.thumbnail.name) if name] + (
        [tiles.name(slide)] if slide.file.name else []
    )


def delete_files(slide: Slide) -> None:
    """Delete a slide's files from the store; missing ones are not an error."""
    for name in files_of(slide):
        slide.file.storage.delete(name)
