"""Pictures for the viewer: a reduced copy of very large slides, and single patches."""

from __future__ import annotations

from io import BytesIO

from django.conf import settings
from django.core.files.base import ContentFile
from PIL import Image

from inference.engine.grid import PATCH, Grid
from inference.engine.image import decode, encode_png

from .models import Slide

#: Slides beyond so many pixels are shown reduced: a browser would need 4 bytes for each.
LARGE = 24_000_000
MAX_SIDE = 4096


def is_large(slide: Slide) -> bool:
    return slide.width * slide.height > LARGE


def name(slide: Slide) -> str:
    """Where the reduced copy is kept: beside the slide's own file, under the same random name."""
    return slide.file.name.replace("slides/", "previews/", 1).removesuffix(".png") + ".jpg"


def ensure(slide: Slide) -> str:
    """The name of the reduced copy, made on first use: a JPEG of at most 4096 pixels a side.

    Raises :class:`inference.engine.image.ImageError` or ``FileNotFoundError``.
    """
    storage, wanted = slide.file.storage, name(slide)
    if storage.exists(wanted):
        return wanted
    with storage.open(slide.file.name) as opened:
        image = Image.fromarray(decode(opened, settings.UPLOAD_MAX_PIXELS).rgb)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = BytesIO()
    image.save(out, "JPEG", quality=88)
    return str(storage.save(wanted, ContentFile(out.getvalue())))


def patch(slide: Slide, grid: Grid, index: int) -> bytes:
    """Patch ``index`` as PNG, 224x224 unless the slide is smaller."""
    x, y = (int(value) for value in grid.positions[index])
    with slide.file.storage.open(slide.file.name) as opened:
        rgb = decode(opened, settings.UPLOAD_MAX_PIXELS).rgb
    return encode_png(rgb[y : y + PATCH, x : x + PATCH].copy())
