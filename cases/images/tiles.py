"""Images for the viewer: Deep Zoom tiles of very large slides, and single patches."""

from __future__ import annotations

import tempfile
import threading
import zipfile
from pathlib import Path

from django.conf import settings

from cases.images import sandbox
from cases.images.serving import LocalFile
from cases.limits.concurrency import Kind
from cases.limits.disk_space import require_space
from cases.limits.quotas import CapacityExceeded, require_slot
from cases.models import Slide, User
from inference.engine.grid import PATCH, Grid

#: Slides with more pixels are shown in tiles; a browser needs 4 bytes per pixel of a whole image.
LARGE = 24_000_000
#: Side of a tile in pixels, and the pixels that it shares with each neighbour.
TILE = 512
OVERLAP = 1
#: Maximum side in pixels of the overview image, which is shown without scripts.
OVERVIEW = 4096
#: Seconds to wait while tiles of another slide are being created, before the response is 429.
PATIENCE = 10
BUSY = "Other large images are being prepared. Try again in a moment."

#: At most one decoder creates tiles; the others are for uploads.
_making = threading.Lock()


def is_large(slide: Slide) -> bool:
    return slide.width * slide.height > LARGE


def name(slide: Slide) -> str:
    """Name of the zip of tiles in the store: the random name of the slide's file, in another folder."""
    return str(slide.file.name).replace("slides/", "previews/", 1).removesuffix(".png") + ".zip"


def levels(slide: Slide) -> tuple[int, int]:
    """Lowest and highest Deep Zoom level: a single tile, and full resolution."""
    highest = (max(slide.width, slide.height) - 1).bit_length()
    return min(highest, TILE.bit_length() - 1), highest


def ensure(slide: Slide, user: User) -> str:
    """Name of the zip of tiles (see :func:`cases.images.sandbox_worker.pyramid`), which is created on first use.

    Raises :class:`inference.engine.image.ImageError`, ``FileNotFoundError``, ``OSError`` if the disk is full, or
    :class:`CapacityExceeded` while tiles of other slides are being created.
    """
    storage, wanted = slide.file.storage, name(slide)
    if storage.exists(wanted):
        return wanted
    with require_slot(user, Kind.PICTURE, BUSY, PATIENCE):
        return _make(slide, wanted, user)


def _make(slide: Slide, wanted: str, user: User) -> str:
    storage = slide.file.storage
    if not _making.acquire(timeout=PATIENCE):
        raise CapacityExceeded(BUSY)
    try:
        if storage.exists(wanted):
            return wanted
        # An uncompressed JPEG pyramid takes less than a byte a pixel.
        require_space(slide.width * slide.height)
        with (
            storage.open(str(slide.file.name)) as opened,
            tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder,
        ):
            path = Path(folder, "tiles.zip")
            with path.open("w+b") as archive:
                sandbox.run("pyramid", [opened, archive], TILE, OVERLAP, OVERVIEW, person=user.pk)
            with LocalFile(path) as whole:
                made = str(storage.save(wanted, whole))
    finally:
        _making.release()
    # Another process was faster, or the slide was deleted meanwhile.
    if made != wanted or not Slide.objects.filter(pk=slide.pk).exists():
        storage.delete(made)
    return wanted


def read(slide: Slide, member: str, user: User) -> bytes | None:
    """One JPEG of the zip of tiles; None if there is none of this name. Raises as :func:`ensure` does."""
    try:
        return _read(slide, member, user)
    except zipfile.BadZipFile:
        # The file is incomplete, because of a full disk or a killed process.
        slide.file.storage.delete(name(slide))
        return _read(slide, member, user)


def _read(slide: Slide, member: str, user: User) -> bytes | None:
    storage = slide.file.storage
    opener = getattr(storage, "open_in_pieces", storage.open)
    with opener(ensure(slide, user)) as opened, zipfile.ZipFile(opened) as archive:
        return archive.read(member) if member in archive.NameToInfo else None


def patch(slide: Slide, grid: Grid, index: int, user: User) -> bytes:
    """Patch ``index`` as PNG of 224x224 pixels, less if the slide is smaller. Raises as :func:`ensure` does."""
    x, y = (int(value) for value in grid.positions[index])
    box = [x, y, min(x + PATCH, slide.width), min(y + PATCH, slide.height)]
    with (
        require_slot(user, Kind.PICTURE, BUSY, PATIENCE),
        slide.file.storage.open(str(slide.file.name)) as opened,
        tempfile.TemporaryFile() as png,
    ):
        sandbox.run("crop", [opened, png], box, person=user.pk)
        png.seek(0)
        return png.read()
