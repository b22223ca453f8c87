"""The one way from a file to RGB pixels, for page, API, command line and training alike."""

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

#: Formats accepted, by content. The names are Pillow's.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
#: Decoded size that is still accepted; 150 megapixels are 450 MB of RGB.
MAX_PIXELS = 150_000_000
#: Below this side length there is no tissue structure to see.
MIN_SIDE = 16
#: Rows that are converted at once.
STRIP = 1024


class ImageError(ValueError):
    """A file that can't be read as an image, with a stable ``code`` and a sentence for the user.

    Codes: ``empty``, ``not_an_image``, ``format``, ``damaged``, ``too_many_pixels``, ``too_small``, ``undecodable``
    (it would take more memory or time than allowed).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Decoded:
    """Pixels uint8 (height, width, 3), and the format (Pillow's name) they came in."""

    rgb: NDArray[np.uint8]
    format: str

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; transparency is laid over white, the colour of an empty slide.

    What needs room to work in is done a strip at a time: whole copies of 150 megapixels take gigabytes.
    """
    width, height = image.size
    strips = range(0, height, STRIP)
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        values = np.asarray(image)
        # 16-bit grey files use the full range by convention; Pillow's own conversion clips at 255.
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
    # A copy of 150 megapixels would be 600 MB.
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(source: bytes | str | Path | IO[bytes], max_pixels: int = MAX_PIXELS) -> Decoded:
    """Read an image as 8-bit RGB; :func:`decode_image` says how. Raises :class:`ImageError`."""
    image, kind = decode_image(source, max_pixels)
    return Decoded(np.array(image, dtype=np.uint8), kind)


def decode_image(source: bytes | str | Path | IO[bytes], max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, str]:
    """Read an image in mode RGB, without any metadata, and say its format (Pillow's name).

    PNG, JPEG, BMP and TIFF (first page) are told by content, never by name. The orientation tag is
    not applied and colour profiles are not used: the pixels are those of the file. CMYK, 16-bit,
    palette and grey images are converted, transparency is laid over white.

    Raises :class:`ImageError`; the size in the header is checked before any pixel is decoded.
    """
    if isinstance(source, bytes):
        source = BytesIO(source)
    # WeasyPrint turns this on for its whole process; here half an image is a damaged one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Damaged tags warn before they matter; what can't be decoded fails below.
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
        raise ImageError("too_small", f"has {width}x{height} pixels; at least {MIN_SIDE} a side are needed")
    kind = image.format or ""
    image.load()
    rgb = _to_rgb(image)
    # Pillow would write a colour profile that is left here into the next file.
    rgb.info = {}
    return rgb, kind


# Pillow warns from this size on; with the warning an error the two limits are one.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def write_png(image: Image.Image, out: IO[bytes]) -> None:
    """Write an image of mode RGB as a PNG without any metadata.

    Behind PNG's filters there are hardly any repetitions in photographs: run lengths alone take half the time of a
    search for them, and less space.
    """
    image.save(out, "PNG", compress_level=1, compress_type=zlib.Z_RLE)


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """The pixels, uint8 (height, width, 3), as a PNG without any metadata."""
    out = BytesIO()
    write_png(Image.fromarray(rgb), out)
    return out.getvalue()
