"""Decoding of image files to RGB pixels, for pages, API and command line."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from .formats.errors import ImageError, check_size, damaged
from .formats.table import HEAD, kind_of

__all__ = ["Decoded", "ImageError", "decode", "encode_png", "open_stored", "write_png"]

#: Decoded size that is still accepted; 150 megapixels are 450 MB of RGB.
MAX_PIXELS = 150_000_000
BLACK_END = "The last {} rows are black. The file may have been cut off and filled up."

# Pillow refuses twice as many by itself.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


@dataclass(frozen=True)
class Decoded:
    """A picture of mode RGB in sRGB, its format (Pillow's name, or DICOM), and warnings about the file.

    ``warnings`` are sentences. ``pages`` are the numbers (from 1) of all pages that are pictures of their own, if the
    file has several; this one is the first of them.
    """

    image: Image.Image
    format: str
    warnings: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Pixels uint8 (height, width, 3)."""
        return np.array(self.image, dtype=np.uint8)


def decode(source: bytes | str | Path | IO[bytes], max_pixels: int = MAX_PIXELS, page: int | None = None) -> Decoded:
    """Read an image file as docs/formats.md says; its content tells the format, never its name.

    ``page`` is one of the ``pages`` of an earlier result, or 0 where the others will be read too: then no warning names
    them. Raises :class:`ImageError`; the size in the header is checked before any pixel is decoded.
    """
    if isinstance(source, str | Path):
        with open(source, "rb") as opened:
            return decode(opened, max_pixels, page)
    file = BytesIO(source) if isinstance(source, bytes) else source
    file.seek(0)
    kind = kind_of(file.read(HEAD))
    file.seek(0)
    try:
        with warnings.catch_warnings():
            # Damaged tags warn before they matter; what can't be decoded fails.
            warnings.simplefilter("ignore")
            return _decode(file, kind, max_pixels, page)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", f"has more than {max_pixels / 1e6:g} megapixels") from error
    except MemoryError as error:
        raise ImageError("undecodable", "can't be read: decoding it takes too much memory") from error
    except Exception as error:  # the decoders raise errors of all kinds on damaged data
        raise damaged() from error


def _decode(file: IO[bytes], kind: str, max_pixels: int, page: int | None) -> Decoded:
    # Web processes import this module and never decode: the libraries are loaded on first use.
    from .formats import dicom, jpeg, simple, tiff
    from .formats.samples import picture

    # WeasyPrint turns this on for its whole process; here half an image is a damaged one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if kind == "TIFF":
        samples = tiff.read(file, max_pixels, page)
    elif kind == "DICOM":
        samples = dicom.read(file, max_pixels)
    elif kind == "JPEG":
        samples = jpeg.read(file.read(), max_pixels)
    else:
        samples = simple.read(file.read(), kind, max_pixels)
    image = picture(samples)
    if kind in ("TIFF", "BMP", "DICOM") and (rows := _black_rows(image)):
        samples.warnings.append(BLACK_END.format(rows))
    return Decoded(image, kind, tuple(dict.fromkeys(samples.warnings)), samples.pages)


def _black_rows(image: Image.Image) -> int:
    """How many rows at the end hold nothing but zeros, if there are many."""
    box = image.getbbox()
    rows = image.height - (box[3] if box else 0)
    return rows if rows > image.height // 50 else 0


def preload() -> None:
    """Load all decoders, so that processes forked from this one need not."""
    for name in ("PNG", "TIFF"):
        out = BytesIO()
        Image.new("RGB", (16, 16)).save(out, name)
        decode(out.getvalue())
    Image.init()


def open_stored(source: IO[bytes], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image of mode RGB that :func:`write_png` wrote. Raises :class:`ImageError` if it is damaged."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(source, formats=("PNG",)) as image:
            check_size(*image.size, max_pixels)
            image.load()
            image.info = {}
            return image if image.mode == "RGB" else image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", "is not a PNG image") from error
    except MemoryError as error:
        raise ImageError("undecodable", "can't be read: decoding it takes too much memory") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        # Pillow raises all of these on damaged data.
        if isinstance(error, ImageError | FileNotFoundError | PermissionError):
            raise
        raise damaged() from error


def write_png(image: Image.Image, out: IO[bytes]) -> None:
    """Write an image of mode RGB as a PNG without metadata.

    After PNG's filters, photographs contain few repeated sequences, so run-length encoding alone is twice as fast as
    zlib's default strategy, and the files are smaller.
    """
    image.save(out, "PNG", compress_level=1, compress_type=zlib.Z_RLE)


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """The pixels, uint8 (height, width, 3), as a PNG without metadata."""
    out = BytesIO()
    write_png(Image.fromarray(rgb), out)
    return out.getvalue()
