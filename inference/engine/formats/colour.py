"""From the colours of a file to sRGB, by littleCMS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .errors import unsupported

#: uint8 or uint16 (height, width, channels) to uint8 RGB of the same height and width.
Converter = Callable[[NDArray[Any]], NDArray[np.uint8]]

BROKEN_PROFILE = "The file's colour profile is broken or does not fit its pixels. It was ignored; colours may be off."
NO_CMYK_PROFILE = "holds CMYK colours (for print) without a usable colour profile, so that its true colours are unknown"
D65 = (0.3127, 0.3290)
#: Chromaticities of red, green and blue (x, y each) by their number in ITU-T H.273, as AVIF, HEIC and PNG name them.
PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
SRGB_PRIMARIES = PRIMARIES[1]
ADOBE_RGB_PRIMARIES = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060)
#: Transfer characteristics of H.273 that are sRGB's, or so close that viewers treat them alike.
SRGB_TRANSFERS = {1, 2, 6, 13, 14, 15}
#: Exponents of the others.
EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
RELATIVE_COLORIMETRIC = 1
SPACES = {"rgb": "rgb", "grey": "gray", "cmyk": "cmyk", "lab": "lab"}


@lru_cache(1)
def srgb() -> bytes:
    return bytes(imagecodecs.cms_profile("srgb"))


@lru_cache(1)
def _d50_lab() -> bytes:
    return bytes(imagecodecs.cms_profile("lab4"))


def profile(gamma: float, primaries: Sequence[float] = SRGB_PRIMARIES, white: Sequence[float] = D65) -> bytes | None:
    """An RGB profile of this exponent (2.2 for ordinary files) and these chromaticities; None if they are sRGB's.

    Raises ValueError for chromaticities that are none.
    """
    same = np.allclose([*primaries, *white], [*SRGB_PRIMARIES, *D65], atol=0.005)
    if same and abs(gamma - 2.2) < 0.05:
        return None
    xyy = [part for i in range(0, 6, 2) for part in (primaries[i], primaries[i + 1], 1.0)]
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=[*white, 1.0], primaries=xyy, gamma=gamma))


def coded(primaries: int, transfer: int) -> bytes | None:
    """The profile of two numbers of H.273; None if they mean sRGB or nothing. Raises :class:`ImageError`."""
    if primaries == 2 or (primaries == 1 and transfer in SRGB_TRANSFERS):
        return None
    if primaries not in PRIMARIES or transfer not in SRGB_TRANSFERS | set(EXPONENTS):
        raise unsupported("holds high-dynamic-range or other rare colours (for video)")
    return profile(EXPONENTS.get(transfer, 2.2), PRIMARIES[primaries])


def _converter(space: str, icc: bytes) -> Converter:
    def convert(pixels: NDArray[Any]) -> NDArray[np.uint8]:
        whole = np.ascontiguousarray(pixels[..., 0] if space == "grey" else pixels)
        return np.asarray(
            imagecodecs.cms_transform(
                whole,
                icc,
                srgb(),
                colorspace=SPACES[space],
                outcolorspace="rgb",
                outdtype="u1",
                intent=RELATIVE_COLORIMETRIC,
            )
        )

    return convert


def _plain(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """sRGB or grey as it is, without a profile."""
    eight = pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(eight, 3, axis=-1) if eight.shape[-1] == 1 else eight


def converter(space: str, icc: bytes | None, warnings: list[str]) -> Converter | None:
    """How pixels of ``space`` (``rgb``, ``grey``, ``cmyk`` or ``lab``) become sRGB; None where they are sRGB.

    A broken profile is named in ``warnings`` and not used. Raises :class:`ImageError` for CMYK without a usable one.
    """
    if space == "lab":
        return _converter(space, _d50_lab())
    if icc:
        convert = _converter(space, icc)
        try:
            return None if _changes_nothing(space, convert) else convert
        except (RuntimeError, ValueError, TypeError):
            # What imagecodecs raises where littleCMS refuses a profile.
            warnings.append(BROKEN_PROFILE)
    if space == "cmyk":
        raise unsupported(NO_CMYK_PROFILE, "Save it as RGB, or with its profile embedded.")
    return None


def _changes_nothing(space: str, convert: Converter) -> bool:
    """Whether a profile is sRGB's, or close to it: then pixels stay as they are instead of being rounded anew."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    if space == "grey":
        probe = steps[:, None, None]
    elif space == "rgb":
        probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 16, 3)
    else:
        convert(np.zeros((1, 1, 4), np.uint8))
        return False
    return int(np.abs(convert(probe).astype(int) - _plain(probe)).max()) <= 1
