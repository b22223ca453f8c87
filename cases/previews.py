"""Pictures for the viewer: a reduced copy of very large slides, and single patches."""

from __future__ import annotations

import tempfile

from django.core.files import File

from inference.engine.grid import PATCH, Grid

from . import decoding
from .models import Slide

#: Slides beyond so many pixels are shown reduced: a browser would need 4 bytes for each.
LARGE = 24_000_000
MAX_SIDE = 4096


def is_large(slide: Slide) -> bool:
    return slide.width * slide.height > LARGE


def name(slide: Slide) -> str:
    """Where the reduced copy is kept: beside the slide's own file, under the same random name."""
    return str(slide.file.name).replace("slides/", "previews/", 1).removesuffix(".png") + ".jpg"


def ensure(slide: Slide) -> str:
    """The name of the reduced copy, made on first use: a JPEG of at most 4096 pixels a side.

    Raises :class:`inference.engine.image.ImageError` or ``FileNotFoundError``.
    """
    storage, wanted = slide.file.storage, name(slide)
    if storage.exists(wanted):
        return wanted
    with storage.open(str(slide.file.name)) as opened, tempfile.TemporaryFile() as small:
        decoding.run("reduce", [opened, small], MAX_SIDE)
        return str(storage.save(wanted, File(small)))


def patch(slide: Slide, grid: Grid, index: int) -> bytes:
    """Patch ``index`` as PNG, 224x224 unless the slide is smaller."""
    x, y = (int(value) for value in grid.positions[index])
    box = [x, y, min(x + PATCH, slide.width), min(y + PATCH, slide.height)]
    with slide.file.storage.open(str(slide.file.name)) as opened, tempfile.TemporaryFile() as png:
        decoding.run("crop", [opened, png], box)
        png.seek(0)
        return png.read()
