"""Images for the viewer: Deep Zoom tiles of very large slides, and single patches."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from django.conf import settings

from cases.images import sandbox
from cases.images.serving import LocalFile, open_stored
from cases.limits.concurrency import MEMORY, THREADS
from cases.limits.disk_space import require_space
from cases.models import Slide, User
from inference.engine.grid import PATCH, Grid

#: Slides with more pixels are shown in tiles; a browser needs 4 bytes per pixel of a whole image.
LARGE = 24_000_000
#: Side of a tile in pixels, and the pixels that it shares with each neighbour.
TILE = 512
OVERLAP = 1
#: Maximum side in pixels of the overview image, which is shown without scripts.
OVERVIEW = 4096
#: Seconds that the viewer waits until an image may be decoded.
PATIENCE = 10.0


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

    Raises :class:`inference.engine.image.ImageError`, :class:`cases.images.serving.FileMissing`, ``OSError`` if the
    disk is full, or :class:`cases.limits.quotas.CapacityExceeded` if too many images are being decoded.
    """
    storage, wanted = slide.file.storage, name(slide)
    if storage.exists(wanted):
        return wanted
    with THREADS.hold(user.pk), MEMORY.hold(user.pk, PATIENCE):
        # Another request may have made them while this one waited.
        return wanted if storage.exists(wanted) else _make(slide, wanted)


def _make(slide: Slide, wanted: str) -> str:
    storage = slide.file.storage
    # An uncompressed JPEG pyramid takes less than a byte a pixel.
    require_space(slide.width * slide.height)
    with (
        open_stored(slide.file) as opened,
        tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder,
    ):
        path = Path(folder, "tiles.zip")
        with path.open("w+b") as archive:
            sandbox.run("pyramid", [opened, archive], TILE, OVERLAP, OVERVIEW)
        with LocalFile(path) as whole:
            made = str(storage.save(wanted, whole))
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
        THREADS.hold(user.pk),
        MEMORY.hold(user.pk, PATIENCE),
        open_stored(slide.file) as opened,
        tempfile.TemporaryFile() as png,
    ):
        sandbox.run("crop", [opened, png], box)
        png.seek(0)
        return png.read()
