"""Synthetic images in the colours of H&E, for trying the application without data. They show no tissue.

Two stain concentrations are painted and converted to colour by the Beer–Lambert law, with the
reference optical densities of Macenko et al. (*A method for normalizing histology slides for quantitative
analysis*, ISBI 2009).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from django.core.files.uploadedfile import SimpleUploadedFile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from inference.engine.image import encode_png

#: Optical density of red, green and blue for one unit of the stain.
HAEMATOXYLIN = (0.5626, 0.7201, 0.4062)
EOSIN = (0.2159, 0.8012, 0.5581)
SIZE = (700, 460)
Plane = NDArray[np.float64]


#: Arguments of :func:`draw` for each image.
FIELDS = [(11, 90, 5, 0.15), (23, 420, 2, 0.4), (37, 900, 0, 0.9)]


def noise(random: np.random.Generator, scale: tuple[float, float]) -> Plane:
    """Smooth noise of the field's size, mean 0 and standard deviation 1; ``scale`` is its grain in x and y."""
    width, height = (max(2, round(side / grain)) for side, grain in zip(SIZE, scale, strict=True))
    coarse = random.normal(size=(height, width)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float64)
    return (fine - fine.mean()) / fine.std()


def _fibres(random: np.random.Generator) -> Plane:
    """Wavy strands: noise that is long in one direction, bent by another noise."""
    strands = noise(random, (90, 7)) + 0.6 * noise(random, (40, 4))
    bend = np.rint(22 * noise(random, (220, 160))).astype(int)
    rows = (np.arange(SIZE[1])[:, None] + bend) % SIZE[1]
    return np.take_along_axis(strands, rows, axis=0)


def _cell(
    random: np.random.Generator, pen: ImageDraw.ImageDraw, x: float, y: float, angle: float, variety: float
) -> None:
    long = 7.5 * float(np.exp(random.normal(0, 0.12 + 0.3 * variety)))
    short = long * float(random.uniform(0.5, 0.8))
    stain = int(np.clip(random.normal(170, 18 + 40 * variety), 70, 255))
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    wobble = 1 + random.normal(0, 0.03 + 0.06 * variety, turn.size)
    a, b = long * wobble * np.cos(turn), short * wobble * np.sin(turn)
    xs = x + a * np.cos(angle) - b * np.sin(angle)
    ys = y + a * np.sin(angle) + b * np.cos(angle)
    pen.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=stain)


def draw(seed: int, cells: int, rings: int = 0, variety: float = 0.4) -> Image.Image:
    """A field of 700x460 pixels with loose cells, and rings of cells around an empty middle.

    ``variety``, 0 to 1, is how much the cells differ in size, shape and stain.
    """
    random = np.random.default_rng(seed)
    nuclei, lumen = Image.new("L", SIZE, 0), Image.new("L", SIZE, 0)
    pen, eraser = ImageDraw.Draw(nuclei), ImageDraw.Draw(lumen)
    taken: list[tuple[float, float, float]] = []
    for _ in range(rings):
        x, y, radius = random.uniform(60, 640), random.uniform(50, 410), random.uniform(34, 70)
        if any(np.hypot(x - cx, y - cy) < radius + r + 26 for cx, cy, r in taken):
            continue
        taken.append((x, y, radius))
        inner = radius - 17
        eraser.ellipse((x - inner, y - inner * 0.85, x + inner, y + inner * 0.85), fill=255)
        count = round(radius * 0.62)
        for layer in (0.0, 9.0):
            for step in range(count):
                turn = 2 * np.pi * (step + random.uniform(-0.2, 0.2)) / count
                cx, cy = x + (radius + layer) * np.cos(turn), y + (radius + layer) * 0.85 * np.sin(turn)
                _cell(random, pen, cx, cy, turn + (np.pi / 2 if layer else 0), variety)
    for _ in range(cells):
        x, y = random.uniform(0, SIZE[0]), random.uniform(0, SIZE[1])
        if all(np.hypot(x - cx, y - cy) > r + 20 for cx, cy, r in taken):
            _cell(random, pen, x, y, random.uniform(0, np.pi), variety)

    def plane(image: Image.Image, blur: float) -> Plane:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float64) / 255

    inside, empty = plane(nuclei, 1.1), plane(lumen, 3.0)
    chromatin = 1 + 0.22 * noise(random, (3, 3))
    haematoxylin = inside * chromatin * 1.1 + plane(nuclei, 7) * 0.2 + 0.03
    eosin = (0.3 + 0.055 * _fibres(random) + 0.05 * noise(random, (180, 140)) - 0.2 * inside) * (1 - empty)
    haematoxylin *= 1 - empty
    density = np.maximum(haematoxylin, 0)[..., None] * HAEMATOXYLIN + np.maximum(eosin, 0)[..., None] * EOSIN
    rgb = 244 * np.exp(-density) + random.normal(0, 2.5, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _files() -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (f"synthetic-{number}.png", encode_png(np.asarray(draw(*field)))) for number, field in enumerate(FIELDS, 1)
    )


def uploads() -> list[SimpleUploadedFile]:
    """Three images as uploaded files; the same ones each time."""
    return [SimpleUploadedFile(name, content, "image/png") for name, content in _files()]
