"""PNG, BMP, WebP, AVIF, HEIC and JPEG 2000: decoded by Pillow, unless samples have more than eight bits."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pi_heif
from PIL import Image

from .colour import coded, profile
from .errors import ImageError, check_padding, check_size
from .samples import Samples, camera

pi_heif.register_heif_opener()

#: Where JPEG 2000 keeps the bits of its first component, behind the marks of its start.
J2K_START, J2K_BITS = b"\xff\x4f\xff\x51", 42


def read(data: bytes, kind: str, max_pixels: int) -> Samples:
    """``kind`` is Pillow's name of the format. Raises :class:`ImageError`, or what Pillow raises on damaged data."""
    if kind in ("WEBP", "AVIF", "HEIF", "JPEG2000"):
        check_padding(data)
    with Image.open(BytesIO(data), formats=(kind,)) as image:
        check_size(*image.size, max_pixels)
        count = getattr(image, "n_frames", 1)
        image.load()
        found = _deep(data, kind) or _samples(image)
        found.orientation = _heif_orientation(data, image) if kind == "HEIF" else camera(image)[0]
        found.icc = image.info.get("icc_profile") or _described(data, kind, image.info, found.warnings)
    if count > 1:
        found.warnings.append(f"The file holds {count} pictures. Only the first was analysed.")
    return found


def _samples(image: Image.Image) -> Samples:
    if image.mode == "CMYK":
        return Samples(np.asarray(image), "cmyk")
    if image.mode in ("PA", "RGBa", "La", "P", "YCbCr", "1") or "transparency" in image.info:
        is_clear = "transparency" in image.info or "a" in image.mode.lower()
        image = image.convert("RGBA" if is_clear else "L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[..., None]
    colours = values.shape[2] - 1 if values.shape[2] in (2, 4) else values.shape[2]
    alpha = values[..., colours] if colours < values.shape[2] else None
    return Samples(values[..., :colours], "grey" if colours == 1 else "rgb", alpha=alpha)


def _heif_orientation(data: bytes, image: Image.Image) -> int:
    """libheif has turned a picture whose boxes say so; EXIF counts where there are none."""
    return 1 if b"irot" in data or b"imir" in data else image.info.get("original_orientation") or 1


def _deep(data: bytes, kind: str) -> Samples | None:
    """The samples of a PNG or JPEG 2000 of more than eight bits; Pillow keeps eight of them."""
    bits = None
    if kind == "PNG" and data[24] == 16:
        values: Any = imagecodecs.png_decode(data)
    elif kind == "JPEG2000" and (bits := _j2k_bits(data)) > 8:
        values = imagecodecs.jpeg2k_decode(data)
    else:
        return None
    if values.ndim == 2:
        values = values[..., None]
    colours = 1 if values.shape[2] < 3 else 3
    alpha = values[..., -1] if values.shape[2] in (2, 4) else None
    return Samples(values[..., :colours], "grey" if colours == 1 else "rgb", bits=bits, alpha=alpha)


def _j2k_bits(data: bytes) -> int:
    at = data.find(J2K_START) + J2K_BITS
    return (data[at] & 0x7F) + 1 if J2K_BITS <= at < len(data) else 8


def _described(data: bytes, kind: str, info: dict[Any, Any], warnings: list[str]) -> bytes | None:
    """A profile from what else files say about their colours. ``warnings`` may grow."""
    try:
        if kind == "PNG":
            return _of_png(data, info)
        if kind in ("AVIF", "HEIF") and (at := data.find(b"colrnclx")) >= 0:
            return coded(int.from_bytes(data[at + 8 : at + 10]), int.from_bytes(data[at + 10 : at + 12]))
        if kind == "JPEG2000" and (at := data.find(b"colr\x02", 0, 4096)) >= 4:
            return data[at + 7 : at - 4 + int.from_bytes(data[at - 4 : at])]
    except ImageError:
        raise
    except (ValueError, RuntimeError, IndexError, ZeroDivisionError):
        warnings.append("What the file says about its colours makes no sense. It was ignored; colours may be off.")
    return None


def _of_png(data: bytes, info: dict[Any, Any]) -> bytes | None:
    """By the chunks cICP, sRGB, gAMA and cHRM, of which the first counts."""
    if (at := data.find(b"\0\0\0\4cICP", 0, 4096)) >= 0:
        return coded(data[at + 8], data[at + 9])
    if "srgb" in info or not ("gamma" in info or "chromaticity" in info):
        return None
    gamma = 1 / info["gamma"] if "gamma" in info else 2.2
    if "chromaticity" not in info:
        return profile(gamma)
    white_x, white_y, *primaries = info["chromaticity"]
    return profile(gamma, primaries, (white_x, white_y))
