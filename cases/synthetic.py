"""Images in the colours of H&E that show no tissue, for trying the application without any data."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image, ImageDraw, ImageFilter

from inference.engine.image import encode_png

EOSIN = (232, 180, 205)
HAEMATOXYLIN = (98, 62, 140)
SIZE = (700, 460)


def draw(seed: int, nuclei: int) -> Image.Image:
    """A field of 700x460 pixels: a pink ground with strands, and dark ellipses for nuclei."""
    random = np.random.default_rng(seed)
    ground = Image.new("RGB", SIZE, EOSIN)
    pen = ImageDraw.Draw(ground)
    for _ in range(60):
        x, y = random.integers(0, SIZE[0]), random.integers(0, SIZE[1])
        shade = int(random.integers(-18, 18))
        colour = tuple(int(np.clip(c + shade, 0, 255)) for c in EOSIN)
        length = int(random.integers(60, 260))
        pen.line((x, y, x + length, y + int(random.integers(-60, 60))), fill=colour, width=int(random.integers(4, 18)))
    ground = ground.filter(ImageFilter.GaussianBlur(3))
    pen = ImageDraw.Draw(ground)
    for _ in range(nuclei):
        x, y = random.integers(0, SIZE[0]), random.integers(0, SIZE[1])
        a, b = random.integers(3, 9), random.integers(4, 11)
        shade = int(random.integers(-25, 35))
        colour = tuple(int(np.clip(c + shade, 0, 255)) for c in HAEMATOXYLIN)
        pen.ellipse((x - a, y - b, x + a, y + b), fill=colour)
    noise = random.normal(0, 4, (SIZE[1], SIZE[0], 3))
    soft = np.asarray(ground.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float64)
    return Image.fromarray(np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _files() -> tuple[tuple[str, bytes], ...]:
    fields = [(1, 120), (2, 420), (3, 900)]
    return tuple(
        (f"synthetic-{number}.png", encode_png(np.asarray(draw(seed, nuclei))))
        for number, (seed, nuclei) in enumerate(fields, 1)
    )


def uploads() -> list[SimpleUploadedFile]:
    """Three images, the same ones each time, as if somebody had uploaded them."""
    return [SimpleUploadedFile(name, content, "image/png") for name, content in _files()]
