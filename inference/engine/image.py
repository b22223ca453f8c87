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

#: Accepted formats, under Pillow's names, detected by content.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
#: Largest accepted image in pixels; 150 megapixels are 450 MB of RGB.
MAX_PIXELS = 150_000_000
#: Smallest accepted side in pixels; smaller images show no tissue structure.
MIN_SIDE = 16
#: Rows converted at a time.
STRIP = 1024


class ImageError(ValueError):
    """A file that can't be read as an image. The message completes a sentence that begins with the file name.

    Stable codes: ``empty``, ``not_an_image``, ``format``, ``damaged``, ``too_many_pixels``, ``too_small``,
    ``undecodable`` (decoding exceeds the limits on memory or time).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Decoded:
    """Pixels uint8 (height, width, 3), and the file's format under Pillow's name."""

    rgb: NDArray[np.uint8]
    format: str

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB. Transparent pixels become white, the colour of an empty slide.

    Conversions work on a strip at a time, because intermediate copies of 150 megapixels would take gigabytes.
    """
    width, height = image.size
    strips = range(0, height, STRIP)
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        values = np.asarray(image)
        # 16-bit greyscale files use the full range by convention; Pillow's own conversion clips at 255.
        scale = 255.0 / 65535.0 if values.max(initial=0) > 255 else 1.0
        grey = np.empty(values.shape, dtype=np.uint8)
        for top in strips:
            strip = np.nan_to_num(values[top : top + STRIP].astype(np.float64))
            grey[top : top + STRIP] = np.clip(np.rint(strip * scale), 0, 255)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgb = Image.new("RGB", image.size)
        for top in strips:
            strip_of = image.crop((0, top, width, min(top + STRIP, height))).convert("RGBA")
            white = Image.new("RGBA", strip_of.size, (255, 255, 255, 255))
            rgb.paste(Image.alpha_composite(white, strip_of).convert("RGB"), (0, top))
        return rgb
    # Avoids a copy, which would take 600 MB for 150 megapixels.
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(source: bytes | str | Path | IO[bytes], max_pixels: int = MAX_PIXELS) -> Decoded:
    """Read an image as 8-bit RGB pixels, as :func:`decode_image` does. Raises :class:`ImageError`."""
    image, kind = decode_image(source, max_pixels)
    return Decoded(np.array(image, dtype=np.uint8), kind)


def decode_image(source: bytes | str | Path | IO[bytes], max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, str]:
    """Read an image. Returns a picture of mode RGB without metadata, and the file's format under Pillow's name.

    PNG, JPEG, BMP and TIFF (first page) are detected by content, not by name. Orientation tags and colour profiles are
    ignored: the pixels are those of the file. CMYK, 16-bit, palette and greyscale images are converted; transparent
    pixels become white.

    Raises :class:`ImageError`. The size in the header is checked before any pixel is decoded.
    """
    if isinstance(source, bytes):
        source = BytesIO(source)
    # WeasyPrint sets this for its whole process; here a truncated image is an error.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Damaged tags cause warnings that do not matter; pixels that can't be decoded raise an error below.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")
            with Image.open(source, formats=FORMATS) as image:
                return _decode_opened(image, max_pixels)
    except ImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError("too_many_pixels", f"has more than {max_pixels / 1e6:g} megapixels") from error
    except UnidentifiedImageError as error:
        size = Path(source).stat().st_size if isinstance(source, (str, Path)) else source.seek(0, 2)
        if size == 0:
            raise ImageError("empty", "is empty (0 bytes)") from error
        raise ImageError("not_an_image", "is not a PNG, JPEG, BMP or TIFF image") from error
    except MemoryError as error:
        raise ImageError("undecodable", "can't be read: decoding it takes too much memory") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        # Pillow's decoders raise all of these on damaged data.
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise ImageError("damaged", "is damaged or cut off and can't be read") from error


def _decode_opened(image: Image.Image, max_pixels: int) -> tuple[Image.Image, str]:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"has {width}x{height} pixels, more than the limit of {max_pixels / 1e6:g} megapixels",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError("too_small", f"has {width}x{height} pixels; each side needs at least {MIN_SIDE}")
    kind = image.format or ""
    image.load()
    rgb = _to_rgb(image)
    # Pillow would copy a colour profile that remains here into files written from this image.
    rgb.info = {}
    return rgb, kind


# Pillow warns above this size; the warning is treated as an error, so that the limits agree.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


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
