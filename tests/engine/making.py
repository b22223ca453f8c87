"""Files as scanners, cameras and editors write them, made from synthetic tissue."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cases.images.synthetic import draw
from inference.engine.formats import colour

Pixels = NDArray[np.uint8]
#: Synthetic tissue in Display P3, stored on its side; pi-heif can't write.
HEIC = Path(__file__).with_name("field.heic")
DISPLAY_P3 = colour.PRIMARIES[12]


def tissue(number: int = 3, width: int = 240, height: int = 200) -> Pixels:
    """uint8 (height, width, 3)."""
    return np.asarray(draw(number, 256))[:height, :width].copy()


def encoded(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, kind, **options)
    return out.getvalue()


def tiff(*pages: Any, **options: Any) -> bytes:
    """Each page an array, or an array and its own options."""
    byteorder = options.pop("byteorder", "<")
    ome, imagej = options.pop("ome", None), options.pop("imagej", False)
    options = {"photometric": "rgb", "metadata": None, **options}
    out = BytesIO()
    with tifffile.TiffWriter(out, byteorder=byteorder, ome=ome, imagej=imagej) as writer:
        for page in pages:
            values, own = page if isinstance(page, tuple) else (page, {})
            writer.write(values, **{**options, **own})
    return out.getvalue()


def rgb_profile(primaries: Any = DISPLAY_P3, gamma: float = 2.2) -> bytes:
    made = colour.profile(gamma, primaries)
    assert made
    return made


def grey_profile(gamma: float = 1.0) -> bytes:
    return bytes(imagecodecs.cms_profile("gray", whitepoint=[*colour.D65, 1.0], gamma=gamma))


def stored_in(pixels: Pixels, profile: bytes, mode: str = "RGB") -> Image.Image:
    """sRGB pixels as a file with this profile stores them, by Pillow's littleCMS."""
    image = Image.fromarray(pixels)
    target = ImageCms.ImageCmsProfile(BytesIO(profile))
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    made = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), target, renderingIntent=relative, outputMode=mode
    )
    assert made is not None
    # Pillow would write the profile into every file.
    made.info = {}
    return made


def cmyk_profile() -> bytes:
    """A printer whose inks mix as simply as possible: a table of 2 steps an ink, to Lab and back."""

    def table(kind: bytes, inputs: int, outputs: int, steps: int, values: NDArray[Any]) -> bytes:
        matrix = b"".join(struct.pack(">i", 65536 if i % 4 == 0 else 0) for i in range(9))
        curves = bytes(range(256))
        head = kind + bytes(4) + bytes([inputs, outputs, steps, 0]) + matrix
        return head + curves * inputs + values.astype(np.uint8).tobytes() + curves * outputs

    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    to_lab = ImageCms.buildTransform(srgb, lab, "RGB", "LAB", relative)
    to_rgb = ImageCms.buildTransform(lab, srgb, "LAB", "RGB", relative)
    steps = 9
    inks = np.stack(np.meshgrid(*[np.linspace(0, 1, steps)] * 4, indexing="ij"), -1).reshape(-1, 4)
    mixed = np.rint(255 * (1 - inks[:, :3]) * (1 - inks[:, 3:])).astype(np.uint8)[None]
    forth = np.asarray(ImageCms.applyTransform(Image.fromarray(mixed), to_lab))
    # Pillow keeps a and b signed; profiles don't.
    forth = forth ^ np.array([0, 128, 128], np.uint8)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 17)] * 3, indexing="ij"), -1).reshape(1, -1, 3).astype(np.uint8)
    signed = Image.frombytes("LAB", (grid.shape[1], 1), (grid ^ np.array([0, 128, 128], np.uint8)).tobytes())
    colours = np.asarray(ImageCms.applyTransform(signed, to_rgb))
    back = np.concatenate([255 - colours, np.zeros_like(colours[..., :1])], -1)
    text = b"CMYK\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": table(b"mft1", 4, 3, steps, forth),
        b"B2A0": table(b"mft1", 3, 4, 17, back),
    }
    at, listed, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        listed += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s12s4s", at + len(body), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp"
    )
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + listed + body


def with_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return png[:33] + chunk + png[33:]


def dicom(pixels: NDArray[Any], layout: str = "RGB", **changes: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName = "Mustermann^Erika"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = layout
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = changes.pop("bits", data.BitsAllocated)
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    frame = changes.pop("frame", None)
    data.PixelData = pydicom.encaps.encapsulate([frame]) if frame else pixels.tobytes()
    for name, value in changes.items():
        setattr(data, name, value)
    out = BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()
