"""TIFF and BigTIFF: the largest picture of a file, in whatever way its samples are laid out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from . import jpeg
from .errors import check_padding, check_size, damaged, unsupported
from .pages import are_one, chosen
from .samples import Samples

# It reports what it skips to standard error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

#: Values of the tag Compression that are read; docs/formats.md names them.
COMPRESSIONS = {
    1: "none",
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    34933: "PNG",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
LAYOUTS = {WHITE_IS_ZERO: "grey", BLACK_IS_ZERO: "grey", RGB: "rgb", PALETTE: "rgb", SEPARATED: "cmyk", YCBCR: "rgb"}
NAMES = {
    4: "a mask",
    32803: "raw camera data",
    34892: "raw camera data",
    32844: "LogL",
    32845: "LogLuv",
}
JPEG, JPEG_OF_YCBCR_DECODED = 7, {7, 33003, 33005, 34712, 50001, 50002, 52546}
#: JPEG, JPEG 2000 and WebP: their decoders make pixels of lost data.
TRUSTING = {7, 33003, 33005, 34712, 50001}
ICC_PROFILE, SMALLEST, LARGEST, ORIENTATION, EXTRA_SAMPLES = 34675, 340, 341, 274, 338
PREMULTIPLIED, STRAIGHT = 1, 2


def read(source: IO[bytes], max_pixels: int, page: int | None = None) -> Samples:
    """The largest full-resolution picture, or page ``page`` (from 1).

    Raises :class:`ImageError`, or whatever tifffile and imagecodecs raise on damaged data.
    """
    # Other files, which OME metadata may name, are not opened.
    with tifffile.TiffFile(source, name="image", _multifile=False) as file:
        choice = chosen(file, page)
        for plane in choice.planes:
            check_size(plane.imagewidth, plane.imagelength, max_pixels)
            _check(plane)
        parts = [_samples(file, plane) for plane in choice.planes]
    found = parts[0]
    if choice.is_guess and not are_one([part.values for part in parts]):
        choice.numbers = [1, 2, 3]
        found = parts[(page or 1) - 1]
        if page is None:
            found.warnings.append("Only page 1 of 3 was analysed. The file holds several pictures.")
    elif len(parts) == 3:
        found.values = np.concatenate([part.values for part in parts], axis=-1)
        found.space = "rgb"
        found.missing = [box for part in parts for box in part.missing]
        if choice.is_guess:
            found.warnings.append("Three grey pages were put together as red, green and blue.")
    found.pages = tuple(choice.numbers)
    found.warnings.extend(choice.warnings)
    return found


def _check(page: Any) -> None:
    """Raises :class:`ImageError` for what is not read."""
    if page.compression not in COMPRESSIONS:
        name = getattr(page.compression, "name", str(page.compression))
        raise unsupported(f"is a TIFF compressed by a method that is not read ({name})", "Save it with LZW or none.")
    if page.photometric not in LAYOUTS and page.photometric not in (CIELAB, ICCLAB):
        name = NAMES.get(page.photometric, f"kind {int(page.photometric)}")
        raise unsupported(f"is a TIFF of samples that are not read ({name})")
    if page.dtype is None or page.dtype.kind not in "buif" or page.imagedepth > 1:
        raise unsupported("is a TIFF of samples that are not read (complex, of mixed size or three-dimensional)")
    if page.photometric in (CIELAB, ICCLAB) and page.bitspersample != 8:
        raise unsupported("is a TIFF of samples that are not read (L*a*b* of more than 8 bits)")
    if page.photometric == SEPARATED and page.samplesperpixel < 4:
        raise unsupported("is a TIFF of inks other than CMYK")
    if page.compression == JPEG and page.bitspersample != 8:
        raise unsupported("is a TIFF compressed as JPEG of a rare kind (12 bits a channel, or lossless)")


def _samples(file: tifffile.TiffFile, page: Any) -> Samples:
    if page.compression in TRUSTING:
        _check_segments(page)
    if page.photometric == YCBCR and page.compression not in JPEG_OF_YCBCR_DECODED:
        values = _ycbcr(file, page)
    else:
        values = _array(page)
    missing = _missing(page)
    extra = tuple(page.extrasamples or ())
    space = "lab" if page.photometric in (CIELAB, ICCLAB) else LAYOUTS[page.photometric]
    colours = {"grey": 1, "cmyk": 4}.get(space, 3)
    if page.photometric == PALETTE:
        values, colours, extra = _palette(page, values), 3, ()
    elif space == "grey" and (count := values.shape[2] - sum(kind in (PREMULTIPLIED, STRAIGHT) for kind in extra)) > 2:
        # Red, green and blue, by a program that names no colours.
        if count > 3:
            raise unsupported(f"is a TIFF of {count} channels, not red, green and blue")
        space, colours, extra = "rgb", 3, extra[2:]
    if page.photometric == CIELAB:
        # Its a and b are signed; littleCMS wants ICC's, which are not.
        values = values ^ np.array([0, 128, 128], dtype=np.uint8)
    found = Samples(
        values[..., :colours],
        space,
        bytes(page.tags.valueof(ICC_PROFILE) or b"") or None,
        int(page.tags.valueof(ORIENTATION) or 1),
        _span(page, values.dtype),
        page.bitspersample if page.photometric != PALETTE else None,
        page.photometric == WHITE_IS_ZERO,
        missing=missing,
    )
    for number, kind in enumerate(extra, colours):
        if kind in (PREMULTIPLIED, STRAIGHT) and number < values.shape[2]:
            found.alpha, found.is_premultiplied = values[..., number], kind == PREMULTIPLIED
    if missing:
        found.warnings.append(f"{len(missing)} tiles are absent from the file. They are shown white.")
    return found


def _array(page: Any) -> NDArray[Any]:
    """(height, width, samples), also where each sample has a plane of its own."""
    stored = page.asarray(squeeze=False, maxworkers=1)
    return np.moveaxis(stored[:, 0, :, :, 0], 0, -1) if stored.shape[0] > 1 else stored[0, 0]


def _ycbcr(file: tifffile.TiffFile, page: Any) -> NDArray[Any]:
    """By libtiff, which knows chroma subsampling outside of JPEG."""
    if page.bitspersample != 8 or not isinstance(page.index, int):
        raise unsupported("is a TIFF of samples that are not read (YCbCr of other than 8 bits)")
    handle = file.filehandle
    handle.seek(0)
    return np.asarray(imagecodecs.tiff_decode(handle.read(), index=page.index, asrgb=True)[..., :3])


def _palette(page: Any, values: NDArray[Any]) -> NDArray[np.uint8]:
    colours = np.asarray(page.colormap)
    if colours.max(initial=0) > 255:
        colours = colours >> 8
    return colours.T[values[..., 0]].astype(np.uint8)


def _span(page: Any, kind: np.dtype) -> tuple[float, float] | None:
    """The samples of black and white by the tags SMinSampleValue and SMaxSampleValue."""
    highest = page.tags.valueof(LARGEST)
    if highest is None or kind == np.uint8:
        return None
    low, high = _plain(page.tags.valueof(SMALLEST), min), _plain(highest, max)
    return (low, high) if np.isfinite([low, high]).all() and high > low else None


def _plain(value: Any, pick: Any) -> float:
    return float(pick(value)) if isinstance(value, Sequence) else float(value or 0)


def _missing(page: Any) -> list[tuple[int, int, int, int]]:
    """Boxes of the tiles that the file leaves out, as scanners do where there is no tissue. Raises ImageError."""
    counts, offsets = page.databytecounts, page.dataoffsets
    empty = [number for number, (count, at) in enumerate(zip(counts, offsets, strict=False)) if not count or not at]
    if not empty:
        return []
    if not page.is_tiled or len(empty) == len(counts) or any(counts[i] or offsets[i] for i in empty):
        raise damaged()
    boxes = []
    for number in empty:
        _, (_, _, top, left, _), (_, height, width, _) = page.decode(None, number)
        boxes.append((left, top, left + width, top + height))
    return list(dict.fromkeys(boxes))


def _check_segments(page: Any) -> None:
    """tifffile's decoders hide some damage. Raises :class:`ImageError`."""
    for segment, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts, flat=True):
        if not segment:
            continue
        if page.compression == JPEG:
            whole = jpeg.joined(page.jpegtables, segment)
            jpeg.pixels(whole, jpeg.header(whole)[2])
        else:
            check_padding(segment)
