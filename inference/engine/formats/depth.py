"""Samples of any depth on the scale that they use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import unsupported

#: Pixels that are worked on at once: whole copies of 150 megapixels take gigabytes.
STRIP = 2**21


def strips(height: int, width: int) -> Iterator[slice]:
    """The rows of an image in pieces of about :data:`STRIP` pixels."""
    rows = max(1, STRIP // width)
    return (slice(top, top + rows) for top in range(0, height, rows))


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    """Lowest and highest value; not a number if there is such a sample."""
    parts = [values[rows] for rows in strips(*values.shape[:2])]
    return float(min(part.min() for part in parts)), float(max(part.max() for part in parts))


def _top(highest: float) -> float:
    """The full scale that integers up to ``highest`` use: all ones, or a power of two where that is reached."""
    value = max(int(np.ceil(highest)), 255)
    return float(value if value & (value - 1) == 0 else 2 ** value.bit_length() - 1)


def true_range(values: NDArray[Any], bits: int | None = None) -> tuple[float, float]:
    """The samples that mean black and white.

    ``bits`` are those that the file says are used, where it packs them. Integers of 8 bits use all of them, by
    convention. For longer ones the bits in use decide: microscope cameras store 10, 12 or 14 bits in 16. Floating-point
    samples run from 0 to 1, or like integers where they go beyond. Raises :class:`ImageError` where no scale is known.
    """
    if values.dtype == np.bool_:
        return 0.0, 1.0
    if bits is not None and values.dtype.kind == "u" and bits < 8 * values.dtype.itemsize:
        return 0.0, float(2**bits - 1)
    if values.dtype == np.uint8:
        return 0.0, 255.0
    lowest, highest = _extremes(values)
    if not np.isfinite([lowest, highest]).all():
        raise unsupported("holds pixels that are no numbers (NaN or infinite)")
    if values.dtype.kind == "f":
        if lowest >= -0.05 and highest <= 1.5:
            return 0.0, 1.0
        if lowest < -0.05 * highest or highest > 2**32:
            raise unsupported(
                f"holds floating-point samples from {lowest:.3g} to {highest:.3g}, a scale that is unknown"
            )
        return 0.0, _top(highest)
    if lowest < 0:
        # Signed integers around zero, as ImageJ keeps 16 bits.
        half = _top(max(-lowest - 1, highest)) + 1
        return -half, half - 1
    return 0.0, _top(highest)


def scaled(values: NDArray[Any], span: tuple[float, float], out: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    """``values`` with ``span`` on the whole scale of ``out``, rounded and clipped."""
    full = np.iinfo(out).max
    if values.dtype == out and span == (0.0, float(full)):
        return values
    low, high = span
    exact = (values.astype(np.float64) - low) * (full / (high - low))
    return np.clip(np.rint(exact), 0, full).astype(out)
