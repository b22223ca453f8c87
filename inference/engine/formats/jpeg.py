"""JPEG files, and JPEG data inside others, by a decoder that reports damage.

Pillow, tifffile and imagecodecs drop libjpeg's warnings, so that lost data become grey or smeared areas without a word.
simplejpeg raises them.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from .colour import ADOBE_RGB_PRIMARIES, profile
from .errors import ImageError, check_size, damaged, unsupported
from .samples import Samples, camera

END = b"\xff\xd9"
#: What libjpeg says of headers alone; the picture is whole.
HARMLESS = re.compile(
    r"unknown JFIF revision|Unknown Adobe color transform|Invalid SOS parameters|Inconsistent progression"
)
PADDED = "bytes before marker 0xd9"
SPACES = {"Gray": "grey", "CMYK": "cmyk", "YCCK": "cmyk"}
WANTED = {"grey": "GRAY", "cmyk": "CMYK", "rgb": "RGB"}


def _decoded(data: bytes, wanted: str) -> NDArray[np.uint8]:
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace=wanted))
    except ValueError as error:
        if HARMLESS.search(str(error)):
            return np.asarray(simplejpeg.decode_jpeg(data, colorspace=wanted, strict=False))
        raise


def header(data: bytes) -> tuple[int, int, str]:
    """Height, width and space (as in :class:`Samples`) of a JPEG. Raises :class:`ImageError`."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError as error:
        raise _refusal(error) from error
    return height, width, SPACES.get(space, "rgb")


def pixels(data: bytes, space: str) -> NDArray[np.uint8]:
    """uint8 (height, width, channels) of a JPEG in ``space``. Raises :class:`ImageError` for what is damaged.

    A missing end mark after complete data is no damage, nor are zeros between the data and the end mark.
    """
    wanted = WANTED[space]
    try:
        return _decoded(data + END, wanted)
    except ValueError as error:
        if PADDED not in str(error):
            raise _refusal(error) from error
    # Either padding behind complete data, or zeros in the place of data: then they are needed, and miss here.
    try:
        return _decoded(data.removesuffix(END).rstrip(b"\0") + END, wanted)
    except ValueError as error:
        raise _refusal(error) from error


def _refusal(error: ValueError) -> ImageError:
    text = str(error)
    if "precision" in text or "conversion" in text:
        return unsupported("is a JPEG of a rare kind (12 bits a channel, or lossless)")
    return damaged()


def joined(tables: bytes | None, segment: bytes) -> bytes:
    """A strip or tile of a TIFF with the tables that the file keeps beside it."""
    if not tables:
        return segment
    return tables.removesuffix(END) + segment.removeprefix(b"\xff\xd8")


def read(data: bytes, max_pixels: int) -> Samples:
    """Raises :class:`ImageError`."""
    height, width, space = header(data)
    check_size(width, height, max_pixels)
    values = pixels(data, space)
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        orientation, is_adobe_rgb = camera(image)
        icc = image.info.get("icc_profile") or (profile(2.2, ADOBE_RGB_PRIMARIES) if is_adobe_rgb else None)
        # In an MPO (stereo cameras, some telephones) the others may be previews or gain maps.
        others = [size for size in _sizes(image) if size == image.size]
    if space == "cmyk":
        # All programs that write such files store ink inverted, as Adobe's do.
        np.subtract(255, values, out=values)
    found = Samples(values, space, icc, orientation)
    if others:
        found.warnings.append(f"The file holds {len(others) + 1} pictures. Only the first was analysed.")
    return found


def _sizes(image: Any) -> list[tuple[int, int]]:
    """Of all pictures but the first."""
    found = []
    for number in range(1, getattr(image, "n_frames", 1)):
        image.seek(number)
        found.append(image.size)
    image.seek(0)
    return found
