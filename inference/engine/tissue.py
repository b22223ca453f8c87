"""The share of tissue in each patch, from the optical density relative to the brightest light in the image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .grid import PATCH, Grid

#: Sum of the three optical densities above which a pixel counts as stained.
STAINED = 0.30
#: Percentile of the optical density of each channel that is taken as the light without tissue.
WHITE = 1
#: Approximate number of pixels sampled to find that light.
SAMPLED = 2**18
#: The image is averaged over blocks of this many pixels per side before its density is computed. This removes camera
#: noise but keeps the membranes of fat cells at every magnification that the bundled model was tested at.
REDUCTION = 4
#: Rows of the image that are reduced at a time, a multiple of REDUCTION.
BAND = 1024
#: A patch with a smaller share of tissue counts as empty.
#:
#: Chosen on the 7,996 patches of the 667 BreakHis and UCSB fields: patches below 0.03 show glass with dust or single
#: cells, every patch above 0.07 contains an edge of tissue or fat; pale fat starts at 0.048 and is mostly above 0.1. At
#: 0.04, 50 patches of 27 fields are empty, and no field loses more than a third of its patches. Synthetic glass added
#: to such fields (vignetting of 6 %, camera noise, JPEG) has a share of 0.
EMPTY = 0.04

#: Optical density -ln(I / 255) of the 256 values of a channel (Beer-Lambert law); black is taken as 1.
_DENSITY: NDArray[np.float32] = -np.log(np.maximum(np.arange(256), 1).astype(np.float32) / 255)


def optical_density(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density of each channel, float32 with the shape of ``rgb``."""
    density: NDArray[np.float32] = _DENSITY[rgb]
    return density


def relative_density(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Lookup tables from the value of a channel to its optical density relative to the brightest light in the image,
    float32 (3, 256).

    ``rgb`` is uint8 (H, W, 3). Relative density depends little on white balance and exposure.
    """
    step = max(2, math.isqrt(rgb.shape[0] * rgb.shape[1] // SAMPLED))
    light = np.percentile(optical_density(rgb[::step, ::step]), WHITE, axis=(0, 1)).astype(np.float32)
    return np.maximum(_DENSITY - light[:, None], 0)


def total_density(rgb: NDArray[np.uint8], tables: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the optical densities of the channels, float32 (H, W), with the tables of :func:`relative_density`."""
    return tables[0][rgb[..., 0]] + tables[1][rgb[..., 1]] + tables[2][rgb[..., 2]]


def shares(image: NDArray[np.uint8] | Image.Image, grid: Grid) -> NDArray[np.float32]:
    """Share of tissue in each patch, float32 (N,), 0 to 1, in the grid's order.

    ``image`` is a picture of mode RGB, or its pixels uint8 (height, width, 3), of the grid's size. The mirrored part of
    a patch beyond the edge of a small image does not count.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    small = _reduced(picture)
    tables = relative_density(small)
    columns = np.array(grid.columns)
    left, right = columns // REDUCTION, np.minimum(-(-(columns + PATCH) // REDUCTION), small.shape[1])
    result = np.empty((len(grid.rows), len(columns)), dtype=np.float32)
    for number, top in enumerate(grid.rows):
        band = small[top // REDUCTION : -(-(top + PATCH) // REDUCTION)]
        stained = np.count_nonzero(total_density(band, tables) > STAINED, axis=0)
        until = np.concatenate([[0], np.cumsum(stained)])
        result[number] = (until[right] - until[left]) / ((right - left) * len(band))
    return result.ravel()


def _reduced(picture: Image.Image) -> NDArray[np.uint8]:
    """The picture reduced by REDUCTION, uint8 (H, W, 3). Works in bands, because Pillow copies what it reduces."""
    width, height = picture.size
    small = np.empty((-(-height // REDUCTION), -(-width // REDUCTION), 3), dtype=np.uint8)
    for top in range(0, height, BAND):
        part = picture.reduce(REDUCTION, (0, top, width, min(top + BAND, height)))
        small[top // REDUCTION : top // REDUCTION + part.height] = np.asarray(part)
    return small
