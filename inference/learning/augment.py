"""Augmentation: patches as another stain, scanner, scale or compression would show them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from inference.engine.tissue import EMPTY, REDUCTION

# Haematoxylin, eosin and residual absorption vectors: Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 2001.
HED = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], dtype=np.float32)
HED /= np.linalg.norm(HED, axis=1, keepdims=True)
HED_INVERSE = np.linalg.inv(HED).astype(np.float32)

#: Attempts to draw a square with tissue.
TRIES = 10


@dataclass(frozen=True)
class Strength:
    """Strength of the augmentation, as half-widths around the unchanged image; 0 disables a term.

    ``stain``: relative concentration of each stain; ``offset``: optical density added to each stain; ``channel``:
    relative optical density of each colour channel (scanner, illumination); ``scale``: natural logarithm of the zoom;
    ``blur``: largest Gaussian radius in pixels; ``jpeg``: lowest quality (100 disables it).
    """

    stain: float = 0.35
    offset: float = 0.04
    channel: float = 0.15
    scale: float = 0.35
    blur: float = 0.8
    jpeg: int = 60


def stain_jitter(pixels: np.ndarray, random: np.random.Generator, strength: Strength) -> np.ndarray:
    """Pixels uint8 (H, W, 3) with random stain concentrations (Tellez et al., IEEE TMI 2018).

    Works on the optical density OD = -ln(I / 255), in which the stains add up (Beer-Lambert law).
    """
    density = -np.log(np.maximum(pixels, 1).astype(np.float32) / 255)
    stains = density @ HED_INVERSE
    factor = random.uniform(1 - strength.stain, 1 + strength.stain, 3).astype(np.float32)
    offset = random.uniform(-strength.offset, strength.offset, 3).astype(np.float32)
    density = (stains * factor + offset) @ HED
    density *= random.uniform(1 - strength.channel, 1 + strength.channel, 3).astype(np.float32)
    return np.clip(np.exp(-density) * 255 + 0.5, 0, 255).astype(np.uint8)


def random_patch(
    pixels: np.ndarray,
    random: np.random.Generator,
    strength: Strength,
    size: int = 224,
    stained: np.ndarray | None = None,
) -> np.ndarray:
    """A random square of an image uint8 (H, W, 3), zoomed, rotated, flipped and restained: uint8 (size, size, 3).

    With ``stained``, the image's tissue mask at reduced resolution (``features.tissue_mask``), squares without tissue
    are redrawn, up to TRIES times.
    """
    height, width = pixels.shape[:2]
    side = round(size * float(np.exp(random.uniform(-strength.scale, strength.scale))))
    side = min(side, height, width)
    for _ in range(TRIES):
        y, x = int(random.integers(0, height - side + 1)), int(random.integers(0, width - side + 1))
        if stained is None:
            break
        part = stained[y // REDUCTION : (y + side) // REDUCTION, x // REDUCTION : (x + side) // REDUCTION]
        if part.mean() >= EMPTY:
            break
    patch = pixels[y : y + side, x : x + side]
    patch = np.rot90(patch, int(random.integers(4)))
    if random.random() < 0.5:
        patch = patch[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(stain_jitter(patch, random, strength)))
    if side != size:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return degrade(image, random, strength)


def degrade(image: Image.Image, random: np.random.Generator, strength: Strength) -> np.ndarray:
    """Blur and JPEG-compress an image, each with a probability of one half: uint8 (H, W, 3)."""
    if strength.blur and random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, strength.blur)))
    if strength.jpeg < 100 and random.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(random.integers(strength.jpeg, 96)))
        image = Image.open(buffer)
    return np.array(image.convert("RGB"))
