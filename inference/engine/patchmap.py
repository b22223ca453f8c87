"""Patch probabilities as an image to overlay on the slide."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .grid import Grid

#: Control points of the colour map *cividis* (Nunez, Anderton & Renslow, PLoS ONE 2018), which is perceptually uniform
#: and looks the same with colour vision deficiency. RGB at 0, 1/8, ... 1.
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
#: Longest side of a map in pixels; patches are large, so a map needs less resolution than its slide.
MAX_SIDE = 1024


def colour_table() -> NDArray[np.uint8]:
    """256 RGB colours, uint8 (256, 3), for probabilities from 0 to 1."""
    at = np.linspace(0, 1, len(CIVIDIS))
    steps = np.linspace(0, 1, 256)
    channels = [np.interp(steps, at, [c[i] for c in CIVIDIS]) for i in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def _scaled(grid: Grid) -> float:
    return min(1.0, MAX_SIDE / max(grid.width, grid.height))


def surface(grid: Grid, malignant: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean probability of the patches that cover each position.

    ``malignant`` is float (N,), 0 to 1, NaN for patches without tissue, in the grid's order. Returns float32 (h, w) at
    the map's scale (longest side at most 1024), NaN where no patch has tissue.
    """
    scale = _scaled(grid)
    height, width = max(1, round(grid.height * scale)), max(1, round(grid.width * scale))
    total = np.zeros((height, width), dtype=np.float32)
    count = np.zeros((height, width), dtype=np.float32)
    for (top, left, bottom, right), value in zip(grid.boxes(scale), malignant, strict=True):
        if not np.isnan(value):
            total[top:bottom, left:right] += value
            count[top:bottom, left:right] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def coloured(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities, float (h, w), as RGBA pixels in the cividis colours, uint8 (h, w, 4); NaN is transparent."""
    known = ~np.isnan(values)
    indices = np.clip(np.rint(np.where(known, values, 0) * 255), 0, 255).astype(np.uint8)
    return np.dstack([colour_table()[indices], np.where(known, 255, 0).astype(np.uint8)])


def render(values: NDArray[np.float32]) -> bytes:
    """Probabilities, float (h, w), as a PNG in the cividis colours, transparent where NaN."""
    out = BytesIO()
    if np.isnan(values).any():
        Image.fromarray(coloured(values)).save(out, "PNG", optimize=True)
        return out.getvalue()
    image = Image.fromarray(np.clip(np.rint(values * 255), 0, 255).astype(np.uint8))
    image.putpalette(colour_table().tobytes())
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
