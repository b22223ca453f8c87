"""From an uploaded file to a slide: checked, stripped of everything but its pixels, stored."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import UploadedFile
from PIL import Image

from inference.engine.image import ImageError, decode, encode_png

from .models import Case, Slide

THUMBNAIL = (320, 320)


@dataclass(frozen=True)
class Rejected:
    """A file that was not taken: its name, a stable code, and a sentence that says why."""

    filename: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.filename} {self.reason}"


def clean_name(name: str | None) -> str:
    """The file's own name as data: no folders, no control characters, at most 255 characters."""
    name = PurePath((name or "").replace("\\", "/")).name
    name = "".join(" " if unicodedata.category(char).startswith("C") else char for char in name)
    return re.sub(r"\s+", " ", name).strip()[:255] or "unnamed"


def thumbnail(image: Image.Image) -> bytes:
    """A JPEG of at most 320 pixels a side."""
    small = image.copy()
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


def store(case: Case, upload: UploadedFile) -> Slide:
    """Decode one upload and keep it as a slide of the case.

    The stored PNG is rebuilt from the pixels, so no metadata of the upload survives; the SHA-256 of
    what was sent is kept. Raises :class:`ImageError` and leaves neither file nor row behind.
    """
    name = clean_name(upload.name)
    if (upload.size or 0) > settings.UPLOAD_MAX_BYTES:
        raise ImageError("too_large", f"is larger than {settings.UPLOAD_MAX_BYTES // 2**20} MB")
    content = upload.read()
    decoded = decode(content, settings.UPLOAD_MAX_PIXELS)
    slide = Slide(
        case=case,
        original_name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        format=decoded.format,
        size=len(content),
        width=decoded.width,
        height=decoded.height,
        magnification=case.magnification,
    )
    del content
    try:
        slide.file.save(name, ContentFile(encode_png(decoded.rgb)), save=False)
        slide.thumbnail.save(name, ContentFile(thumbnail(Image.fromarray(decoded.rgb))), save=False)
        slide.save()
    except BaseException:
        delete_files(slide)
        raise
    return slide


def store_all(case: Case, uploads: Iterable[UploadedFile]) -> tuple[list[Slide], list[Rejected]]:
    """Keep what can be read and say of the rest why not."""
    slides, rejected = [], []
    for upload in uploads:
        try:
            slides.append(store(case, upload))
        except ImageError as error:
            rejected.append(Rejected(clean_name(upload.name), error.code, str(error)))
    return slides, rejected


def delete_files(slide: Slide) -> None:
    """Remove a slide's files from the store; missing ones are no error."""
    for file in (slide.file, slide.thumbnail):
        if file.name:
            file.storage.delete(file.name)
