"""DICOM: visible-light pictures of one frame, as microscope cameras and archives (PACS) keep them."""

from __future__ import annotations

import logging
from typing import IO, Any

import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from . import jpeg, simple
from .errors import check_size, unsupported
from .samples import Samples

# Its warnings quote the file, which may name a patient.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

ADVICE = "Export the field as TIFF or PNG."
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
#: Uncompressed (implicit, explicit, deflated, big-endian) and run lengths, which pydicom reads by itself.
PLAIN = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
}
GREY = {"MONOCHROME1", "MONOCHROME2"}


def read(source: IO[bytes], max_pixels: int) -> Samples:
    """Raises :class:`ImageError`, or whatever pydicom raises on damaged data."""
    data: Any = pydicom.dcmread(source)
    if "PixelData" not in data:
        raise unsupported("is a DICOM object without a picture", ADVICE)
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        raise unsupported(f"is a DICOM object of {data.NumberOfFrames} frames (a whole slide or a film)", ADVICE)
    check_size(int(data.Columns), int(data.Rows), max_pixels)
    syntax, layout = str(data.file_meta.TransferSyntaxUID), str(data.PhotometricInterpretation)
    if syntax == JPEG_BASELINE or syntax in JPEG_2000:
        frame = next(generate_frames(data.PixelData, number_of_frames=1))
        # A fragment is filled up to an even number of bytes.
        found = jpeg.read(frame, max_pixels) if syntax == JPEG_BASELINE else simple.read(frame, "JPEG2000", max_pixels)
    elif syntax in PLAIN and layout in GREY | {"RGB", "YBR_FULL"}:
        values = pixel_array(data, raw=False)
        values = values[..., None] if values.ndim == 2 else values
        found = Samples(values, "grey" if layout in GREY else "rgb", bits=int(data.BitsStored))
    else:
        raise unsupported(
            f"is a DICOM object of a kind that is not read ({layout}, {pydicom.uid.UID(syntax).name})", ADVICE
        )
    found.is_inverted = layout == "MONOCHROME1"
    found.icc = found.icc or _profile(data)
    return found


def _profile(data: Any) -> bytes | None:
    paths = data.get("OpticalPathSequence") or [{}]
    return bytes(data.get("ICCProfile") or paths[0].get("ICCProfile") or b"") or None
