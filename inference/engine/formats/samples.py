"""What a reader found in a file, and how it becomes a picture: scaled, over white, in sRGB, upright."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from .colour import converter
from .depth import scaled, strips, true_range

#: By the value of TIFF's and EXIF's Orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NO_OPACITY = "All pixels are marked as transparent. The mark was ignored."


@dataclass
class Samples:
    """Samples as stored, (height, width, channels) of any integer or floating-point type.

    ``space`` is ``rgb``, ``grey``, ``cmyk`` or ``lab``. ``span`` are the values of black and white, if the file names
    them, and ``bits`` the bits a sample that it packs. ``alpha`` is (height, width). ``missing`` are boxes (left, top,
    right, bottom) that the file leaves out.
    """

    values: NDArray[Any]
    space: str
    icc: bytes | None = None
    orientation: int = 1
    span: tuple[float, float] | None = None
    bits: int | None = None
    is_inverted: bool = False
    alpha: NDArray[Any] | None = None
    is_premultiplied: bool = False
    missing: list[tuple[int, int, int, int]] = field(default_factory=list)
    pages: tuple[int, ...] = ()
    warnings: list[str] = field(default_factory=list)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Upright, by the value of the tag Orientation."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def camera(image: Image.Image) -> tuple[int, bool]:
    """What EXIF says: the orientation, and whether the colours are Adobe RGB, which cameras mark there alone."""
    try:
        exif = image.getexif()
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
        return exif.get(ExifTags.Base.Orientation, 1), index == "R03"
    except Exception:  # noqa: BLE001  Pillow raises many kinds on damaged metadata; they say nothing about the pixels
        return 1, False


def picture(samples: Samples) -> Image.Image:
    """An image of mode RGB in sRGB. ``samples.warnings`` may grow. Raises :class:`ImageError`."""
    values = samples.values
    height, width = values.shape[:2]
    span = samples.span or true_range(values, samples.bits)
    convert = converter(samples.space, samples.icc, samples.warnings)
    # More than eight bits are worth keeping until a profile's curve has been applied.
    kind = np.uint8 if convert is None or values.dtype == np.uint8 else np.uint16
    alpha, full = _opacity(samples)
    if values.dtype == np.uint8 and values.shape[2] == 3 and convert is None and alpha is None and span == (0.0, 255.0):
        # The usual file, which needs no second array of its size.
        return turned(Image.fromarray(np.ascontiguousarray(_blanked(values, samples))), samples.orientation)
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    for rows in strips(height, width):
        strip = scaled(values[rows], span, kind)
        if samples.is_inverted:
            strip = np.iinfo(kind).max - strip
        if alpha is not None:
            strip = _over_white(strip, scaled(alpha[rows], (0.0, full), kind), samples.is_premultiplied)
        rgb[rows] = strip if convert is None else convert(strip)
    return turned(Image.fromarray(_blanked(rgb, samples)), samples.orientation)


def _blanked(rgb: NDArray[np.uint8], samples: Samples) -> NDArray[np.uint8]:
    """White where the file leaves pixels out."""
    for left, upper, right, lower in samples.missing:
        rgb[upper:lower, left:right] = 255
    return rgb


def _opacity(samples: Samples) -> tuple[NDArray[Any] | None, float]:
    """The alpha channel, if it says anything, and the value of full opacity."""
    if samples.alpha is None:
        return None, 1.0
    if not samples.alpha.any():
        samples.warnings.append(NO_OPACITY)
        return None, 1.0
    return samples.alpha, true_range(samples.alpha, samples.bits)[1]


def _over_white(colours: NDArray[Any], alpha: NDArray[Any], is_premultiplied: bool) -> NDArray[Any]:
    """Laid over white, the colour of an empty slide."""
    full = np.iinfo(colours.dtype).max
    opacity = alpha[..., None].astype(np.uint64)
    own = colours.astype(np.uint64) * (full if is_premultiplied else opacity)
    return np.minimum((own + full * (full - opacity) + full // 2) // full, full).astype(colours.dtype)
