"""Class activation maps of the patches, combined into a map of the slide.

For a network that ends in global average pooling and a linear layer, the class activation map (Zhou et al., *Learning
Deep Features for Discriminative Localization*, CVPR 2016) is the linear layer applied at each position of the last
feature map. Its spatial mean is the logit.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .grid import PATCH, Grid

#: Pixels of the slide per pixel of the map: a patch of 224x224 pixels has a map of 7x7.
STEP = PATCH // 7
MAX_SIDE = 1024


def surface(grid: Grid, activation: NDArray[np.float16]) -> NDArray[np.float32]:
    """Local evidence for malignancy, 0 to 1: the logistic function of the local logit difference.

    ``activation`` is float (N, 7, 7), malignant minus benign logit, in the grid's order; NaN for patches without
    tissue. Where patches overlap, their logits are averaged. Returns float32 (h, w), NaN where no patch has tissue,
    with one value per 32 pixels of the slide, or fewer so that the longest side is at most 1024.
    """
    scale = min(1.0 / STEP, MAX_SIDE / max(grid.width, grid.height))
    height, width = max(1, round(grid.height * scale)), max(1, round(grid.width * scale))
    # The margin holds patches that extend beyond a small image.
    total = np.zeros((height + 8, width + 8), dtype=np.float32)
    count = np.zeros_like(total)
    for (top, left, bottom, right), values in zip(grid.boxes(scale), activation, strict=True):
        patch = np.asarray(values, dtype=np.float32)
        if np.isnan(patch).any():
            continue
        # Positions are rounded, so a patch may cover 6 or 8 map pixels instead of 7.
        if (bottom - top, right - left) != patch.shape:
            patch = np.asarray(Image.fromarray(patch).resize((right - left, bottom - top), Image.Resampling.BOX))
        total[top:bottom, left:right] += patch
        count[top:bottom, left:right] += 1
    total, count = total[:height, :width], count[:height, :width]
    logits = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)


def encode(values: NDArray[np.float32]) -> bytes:
    """Values 0 to 1, float (h, w), as an 8-bit greyscale PNG, transparent where NaN. The viewer adds colours."""
    known = ~np.isnan(values)
    grey = np.clip(np.rint(np.where(known, values, 0) * 255), 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey)
    if not known.all():
        picture.putalpha(Image.fromarray(np.where(known, 255, 0).astype(np.uint8)))
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
