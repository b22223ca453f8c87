"""Patch probabilities as a picture that lies over the slide."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .grid import Grid

#: Control points of the colour map *cividis* (Nunez, Anderton & Renslow, PLoS ONE 2018): even in
#: lightness and the same to colour-blind eyes. RGB at 0, 1/8, ... 1.
CIVIDIS = (
    (0, 34, 78),
    (26, 56, 111),
    (67, 78, 108),
    (97, 101, 111),
    (125, 124, 120),
    (155, 148, 118),
    (188, 174, 108),
    (222, 201, 88),
    (254, 232, 56),
)
#: Longest side of a map in pixels; patches are coarse, so a map need not be as large as its slide.
MAX_SIDE = 1024


def colour_table() -> NDArray[np.uint8]:
    """256 colours, uint8 (256, 3), from probability 0 to 1."""
    at = np.linspace(0, 1, len(CIVIDIS))
    steps = np.linspace(0, 1, 256)
    channels = [np.interp(steps, at, [c[i] for c in CIVIDIS]) for i in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def _scaled(grid: Grid) -> float:
    return min(1.0, MAX_SIDE / max(grid.width, grid.height))


def surface(grid: Grid, malignant: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean probability of the patches that cover each place.

    ``malignant`` is float (N,), 0 to 1, in the grid's order. Returns float32 (h, w) at the map's
    scale (longest side at most 1024).
    """
    scale = _scaled(grid)
    height, width = max(1, round(grid.height * scale)), max(1, round(grid.width * scale))
    total = np.zeros((height, width), dtype=np.float32)
    count = np.zeros((height, width), dtype=np.float32)
    for (top, left, bottom, right), value in zip(grid.boxes(scale), malignant, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)


def render(values: NDArray[np.float32]) -> bytes:
    """A surface of probabilities, float (h, w), as an opaque PNG in the cividis colours.

    The page sets opacity and threshold; the red channel alone does not tell the value, so the
    numbers travel beside the picture.
    """
    indices = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    out = BytesIO()
    image = Image.fromarray(indices)
    image.putpalette(colour_table().tobytes())
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
