"""What is read, how, and what is not: the one table that tells files apart and that docs/formats.md is made from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ImageError, unsupported


@dataclass(frozen=True)
class Format:
    """A format that is read. ``kind`` is Pillow's name, ``start`` what its content begins with."""

    kind: str
    name: str
    start: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    how: str
    limits: str


@dataclass(frozen=True)
class Other:
    """A format that is known and not read, and what to do."""

    name: str
    start: re.Pattern[bytes]
    advice: str


def _starts(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


#: "ftyp" boxes name a main brand and, behind its version, others.
READ = (
    Format(
        "PNG", "PNG", _starts(rb"\x89PNG\r\n\x1a\n"), (".png",),
        "Pillow; 16 bits by libpng (imagecodecs). Checksums are verified. Colours by iCCP, cICP, sRGB, gAMA and cHRM; "
        "orientation by eXIf; transparency over white",
        "of an animated PNG only the default picture, with a warning",
    ),
    Format(
        "JPEG", "JPEG", _starts(rb"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif"),
        "libjpeg-turbo (simplejpeg), which reports lost data: baseline, progressive, arithmetic coding; grey, YCbCr, "
        "RGB, CMYK and YCCK. Colours by the embedded profile, or Adobe RGB by EXIF; orientation by EXIF",
        "12 bits a channel and most lossless JPEGs are refused; of several pictures (MPO) the first, with a warning",
    ),
    Format(
        "TIFF", "TIFF, BigTIFF, OME-TIFF", _starts(rb"II[*+]\0|MM\0[*+]"), (".tif", ".tiff", ".btf", ".svs"),
        "tifffile and imagecodecs; JPEG data are checked by libjpeg-turbo. Strips and tiles; planes together or apart; "
        "grey, RGB, palette, CMYK, YCbCr, L*a*b*; 1 to 32 bits, integer or floating-point; compressions: none, CCITT, "
        "LZW, Deflate, PackBits, JPEG, JPEG 2000, JPEG XL, LERC, LZMA, PNG, WebP, Zstandard. Pages: the largest "
        "full-resolution one, never a thumbnail, label, macro or lower level; red, green and blue in grey pages of "
        "their own (OME, ImageJ, plain) are put together. Tiles left out are white, with a warning",
        "old-style JPEG, 12-bit JPEG, raw camera data and other numbers of channels are refused; of several pictures "
        "one, with a warning",
    ),
    Format("BMP", "BMP", _starts(rb"BM"), (".bmp",), "Pillow", "without colour profiles"),
    Format(
        "WEBP", "WebP", _starts(rb"RIFF....WEBP"), (".webp",),
        "Pillow (libwebp), lossy and lossless; embedded profile, EXIF orientation",
        "of an animation only the first picture, with a warning",
    ),
    Format(
        "AVIF", "AVIF", _starts(rb"....ftyp(avi[fs]|(....){1,8}avif)"), (".avif",),
        "Pillow (libavif); embedded profile or colour numbers; orientation", "high dynamic range is refused",
    ),
    Format(
        "HEIF", "HEIC", _starts(rb"....ftyp(hei[cmsx]|hev[cmx]|mif1|msf1)"), (".heic", ".heif"),
        "libheif and libde265 (pi-heif, without an encoder); embedded profile or colour numbers; orientation",
        "the main picture only; high dynamic range is refused",
    ),
    Format(
        "JPEG2000", "JPEG 2000", _starts(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), (".jp2", ".j2k", ".jpf", ".jpx"),
        "OpenJPEG (Pillow; more than 8 bits by imagecodecs); embedded profile", "cut-off files are refused",
    ),
    Format(
        "DICOM", "DICOM", _starts(rb".{128}DICM"), (".dcm",),
        "pydicom; one frame of RGB, YBR or monochrome samples, uncompressed, RLE, JPEG baseline or JPEG 2000; the "
        "profile of the optical path",
        "several frames (whole slides, films) and other transfer syntaxes are refused",
    ),
)  # fmt: skip

NOT_READ = (
    Other("GIF image (256 colours)", _starts(rb"GIF8"), "Export it again from the original as PNG or TIFF."),
    Other("JPEG XL image", _starts(rb"\xff\x0a|\0\0\0\x0cJXL "), "Save it as PNG or TIFF."),
    Other("Photoshop document", _starts(rb"8BPS"), "Save it as TIFF or PNG without layers."),
    Other("PDF document", _starts(rb"%PDF"), "Export its pictures as PNG or TIFF."),
    Other("PostScript document", _starts(rb"%!PS|\xc5\xd0\xd3\xc6"), "Export its pictures as PNG or TIFF."),
    Other("ZIP archive or office document", _starts(rb"PK\x03\x04"), "Unpack it and send the images."),
    Other("compressed archive", _starts(rb"Rar!|7z\xbc\xaf|\x1f\x8b"), "Unpack it and send the images."),
    Other("ZEISS CZI file", _starts(rb"ZISRAWFILE"), "Export the field as TIFF from ZEN."),
    Other("Leica LIF file", _starts(rb"\x70\0\0\0.{4}\x2a"), "Export the field as TIFF from LAS X."),
    Other("Nikon ND2 file", _starts(rb"\xda\xce\xbe\x0a"), "Export the field as TIFF from NIS-Elements."),
    Other("Olympus VSI file", _starts(rb"CompactVSI"), "Export the field as TIFF."),
    Other("SVG drawing or XML document", _starts(rb"\s*<(\?xml|svg)"), "Send the image itself as PNG or TIFF."),
    Other("video", _starts(rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI "), "Save one picture of it as PNG or TIFF."),
    Other(
        "companion file of macOS (._name), without a picture", _starts(rb"\x00\x05\x16\x07"), "Send the file itself."
    ),
)

#: What is said in one breath where files are chosen.
NAMES = "PNG, JPEG, TIFF, BMP, WebP, HEIC, AVIF, JPEG 2000 or DICOM"
KINDS = {one.kind: one for one in READ}
SUFFIXES = tuple(suffix for one in READ for suffix in one.suffixes)
#: Bytes of a file's start that tell what it is.
HEAD = 160


def kind_of(head: bytes) -> str:
    """The kind of a file that starts with ``head`` (:data:`HEAD` bytes). Raises :class:`ImageError`."""
    if not head:
        raise ImageError("empty", "is empty (0 bytes)")
    for one in READ:
        if one.start.match(head):
            return one.kind
    for other in NOT_READ:
        if other.start.match(head):
            raise unsupported(f"is a {other.name}, which is not read", other.advice)
    raise ImageError("not_an_image", f"is not a {NAMES} image")


def is_image(head: bytes) -> bool:
    """Whether a file that starts with ``head`` is of a format that is read."""
    return any(one.start.match(head) for one in READ)


def pattern() -> str:
    """:func:`is_image` as a regular expression for browsers, on a text whose characters are the bytes."""
    return "^(" + "|".join(one.start.pattern.decode("latin-1") for one in READ) + ")"


def is_litter(name: str) -> bool:
    """Whether a file of a folder is hidden or a system's own, which nobody means to send."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")


def page() -> Iterator[str]:
    """The lines of docs/formats.md."""
    yield from INTRODUCTION.splitlines()
    yield ""
    yield "| format | usual names | read by, and how | not read |"
    yield "|---|---|---|---|"
    for one in READ:
        yield f"| {one.name} | {', '.join(f'`{suffix}`' for suffix in one.suffixes)} | {one.how} | {one.limits} |"
    yield ""
    yield "## Known, and refused with advice"
    yield ""
    yield "| file | advice |"
    yield "|---|---|"
    yield from (f"| {other.name} | {other.advice} |" for other in NOT_READ)
    yield ""
    yield from RULES.splitlines()


INTRODUCTION = """\
# Image files

<!-- Made by `manage.py formats > docs/formats.md`. Change inference/engine/formats/table.py instead. -->

Page, API, folder and command line read the same files in the same way. The content decides what a file is; its name
and the type that a browser sends are ignored. Whatever is read ends as sRGB pixels with 8 bits a channel, and the
stored image, the viewer and the analysis use these same pixels."""

RULES = """\
## Rules for all formats

- **Colour.** An embedded ICC profile is applied by littleCMS (relative colorimetric) for RGB, grey and CMYK, before
  more than 8 bits are reduced to 8. A profile that is sRGB's changes nothing. A broken or unfitting profile gives a
  warning, and the pixels stay as they are. CMYK without a usable profile is refused: its colours are unknown. Files
  without a profile are taken as sRGB.
- **Orientation** is applied. Sizes and coordinates are those of the upright image.
- **Depth.** Samples of more than 8 bits and floating-point samples are scaled by the range they use: the tags
  SMinSampleValue and SMaxSampleValue, the bits that the file packs, else the bits in use (12 bits in 16, for
  example). Floating-point samples run from 0 to 1, or like integers beyond that. Not-a-number pixels are refused.
- **Transparency** lies over white, the colour of an empty slide. If all pixels are transparent, the mark is
  ignored, with a warning.
- **Damage.** What a decoder reports as corrupt, short or padded is refused. Bytes behind the image, restart markers
  and a missing end mark after complete data are no damage. Uncompressed data carry no checks; if such a file ends
  in black rows, a warning says so.
- **Size.** From 16 pixels a side to `UPLOAD_MAX_PIXELS` in all, and `UPLOAD_MAX_BYTES` bytes.
- **Warnings** stand beside the result on the page, in the API, in CSV files and in the report."""
