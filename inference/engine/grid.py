"""Positions of the patches on an image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PATCH = 224
MAX_OVERLAP = 0.75


def _starts(length: int, overlap: float) -> list[int]:
    """Start positions of the patches along one axis: evenly spaced, the first at 0, the last ending at the edge."""
    if length <= PATCH:
        return [0]
    stride = PATCH * (1.0 - overlap)
    count = math.ceil((length - PATCH) / stride) + 1
    return [round(i * (length - PATCH) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class Grid:
    """The patches of 224x224 pixels that cover an image of ``width`` x ``height`` pixels completely.

    Patches are evenly spaced, so if a side is not a multiple of 224, all neighbours overlap slightly. ``overlap`` is
    the minimum overlap of neighbours as a share of a patch, 0 to 0.75. An axis shorter than a patch has one position;
    :meth:`pad` and :meth:`crop` fill the missing pixels by mirroring.

    Raises ValueError if a side is not positive or the overlap is out of range.
    """

    width: int
    height: int
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"an image of {self.width}x{self.height} pixels has no patches")
        if not 0.0 <= self.overlap <= MAX_OVERLAP:
            raise ValueError(f"overlap must be between 0 and {MAX_OVERLAP}, not {self.overlap}")

    @cached_property
    def columns(self) -> list[int]:
        """Left edges in pixels, ascending."""
        return _starts(self.width, self.overlap)

    @cached_property
    def rows(self) -> list[int]:
        """Top edges in pixels, ascending."""
        return _starts(self.height, self.overlap)

    @cached_property
    def positions(self) -> NDArray[np.int32]:
        """Top-left corners, int32 (N, 2) as x, y, row by row."""
        return np.array([(x, y) for y in self.rows for x in self.columns], dtype=np.int32)

    def boxes(self, scale: float) -> Iterator[tuple[int, int, int, int]]:
        """The patches on a copy of the image scaled by ``scale`` (0 < scale <= 1): top, left, bottom and right in its
        pixels, in the grid's order.

        Each box has at least one pixel and starts within the scaled image; together they cover it. Those of an image
        smaller than a patch extend beyond it.
        """
        height, width = max(1, round(self.height * scale)), max(1, round(self.width * scale))
        for x, y in self.positions:
            top, left = min(round(y * scale), height - 1), min(round(x * scale), width - 1)
            bottom, right = max(top + 1, round((y + PATCH) * scale)), max(left + 1, round((x + PATCH) * scale))
            yield top, left, bottom, right

    def __len__(self) -> int:
        return len(self.columns) * len(self.rows)

    def pad(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image, uint8 (height, width, 3), extended to at least 224 pixels per side by mirroring at the right and
        bottom edge. Returned unchanged if it is large enough.
        """
        missing = (max(0, PATCH - self.height), max(0, PATCH - self.width))
        if not any(missing):
            return rgb
        return np.pad(rgb, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")

    def cut(self, padded: NDArray[np.uint8], index: int, out: NDArray[np.uint8]) -> None:
        """Copy patch ``index`` of the padded image into ``out``, uint8 (224, 224, 3)."""
        x, y = self.positions[index]
        np.copyto(out, padded[y : y + PATCH, x : x + PATCH])

    def crop(self, picture: Image.Image, index: int, out: NDArray[np.uint8]) -> None:
        """Copy patch ``index`` of a picture of mode RGB into ``out``, uint8 (224, 224, 3). Gives the same pixels as
        :meth:`pad` and :meth:`cut`, without a copy of the whole picture."""
        x, y = (int(start) for start in self.positions[index])
        rgb = np.asarray(picture.crop((x, y, min(x + PATCH, self.width), min(y + PATCH, self.height))))
        np.copyto(out, self.pad(rgb))
