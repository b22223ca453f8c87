"""Lost data are refused, wherever in a file they are lost; what harms nothing passes."""

from __future__ import annotations

import random
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from inference.engine.image import ImageError, decode
from tests.engine.making import HEIC, dicom, encoded, tiff, tissue

FIELD = tissue()
END = b"\xff\xd9"
JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 4},
    "full colour": {"subsampling": 0},
    "optimised": {"optimize": True},
}


def refused(content: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.code == "damaged"


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("share", [35, 60, 85, 95])
def test_a_jpeg_that_lacks_data(kind: str, share: int) -> None:
    whole = encoded(FIELD, "JPEG", quality=92, **JPEGS[kind])
    at = len(whole) * share // 100
    cut = whole[:at]
    zeros = bytes(len(whole) - at)
    for content in (
        cut,
        cut + END,
        cut + zeros,
        cut + zeros + END,
        cut + END + b"trailer",
        cut + zeros[:900] + whole[-900:],
    ):
        refused(content)


@pytest.mark.parametrize("kind", JPEGS)
def test_what_harms_nothing_passes(kind: str) -> None:
    whole = encoded(FIELD, "JPEG", quality=92, **JPEGS[kind])
    expected = np.asarray(Image.open(BytesIO(whole)))
    assert np.array_equal(decode(whole).rgb, expected), "the same decoder as Pillow's"
    for content in (
        whole + b"trailer",
        whole + bytes(5000),
        whole.removesuffix(END),
        whole.removesuffix(END) + bytes(700) + END,
    ):
        assert np.array_equal(decode(content).rgb, expected)


def test_jpeg_inside_others() -> None:
    for options in ({"tile": (64, 64)}, {"rowsperstrip": 64}, {}):
        content = tiff(FIELD, compression="jpeg", **options)
        assert np.abs(decode(content).rgb.astype(int) - FIELD).mean() < 4
        page = tifffile.TiffFile(BytesIO(content)).pages[0]
        at, count = page.dataoffsets[-1], page.databytecounts[-1]
        middle = at + count // 2
        broken = bytearray(content)
        broken[middle : at + count] = bytes(at + count - middle - 2) + END
        refused(bytes(broken))
        refused(content[:middle])
    frame = encoded(FIELD, "JPEG", quality=92)
    syntax = "1.2.840.10008.1.2.4.50"
    assert decode(dicom(FIELD, "YBR_FULL_422", frame=frame, syntax=syntax)).image.size == (240, 200)
    refused(dicom(FIELD, "YBR_FULL_422", frame=frame[: len(frame) // 2] + END, syntax=syntax))


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd", "webp", "lzma", "png", "jpeg2000", "lerc"])
def test_compressed_tiff_that_lacks_data(compression: str) -> None:
    whole = tiff(FIELD, compression=compression, rowsperstrip=200)
    assert np.abs(decode(whole).rgb.astype(int) - FIELD).mean() < 4
    page = tifffile.TiffFile(BytesIO(whole)).pages[0]
    at, count = page.dataoffsets[0], page.databytecounts[0]
    refused(whole[: at + count // 2])
    refused(whole[: at + count // 2] + bytes(count - count // 2) + whole[at + count :])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "AVIF", "HEIF", "JPEG2000"])
def test_others_that_lack_data(kind: str) -> None:
    whole = HEIC.read_bytes() if kind == "HEIF" else encoded(FIELD, kind)
    half = len(whole) // 2
    refused(whole[:half])
    if kind == "BMP":
        found = decode(whole[:half] + bytes(len(whole) - half))
        assert not found.warnings, "of a file that begins at the bottom, the top is lost"
    else:
        refused(whole[:half] + bytes(len(whole) - half))


def test_uncompressed_data_that_end_in_zeros_are_named() -> None:
    whole = tiff(FIELD)
    found = decode(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    assert "last" in found.warnings[0] and "black" in found.warnings[0]


def test_tiles_left_out_are_white_and_others_damaged() -> None:
    content = tiff(FIELD, tile=(64, 64), compression="zlib")

    def without(*numbers: int, both: bool = True) -> bytes:
        file = BytesIO(content)
        with tifffile.TiffFile(file, mode="r+") as opened:
            page: Any = opened.pages[0]
            for tag in (324, 325) if both else (324,):
                page.tags[tag].overwrite([0 if i in numbers else v for i, v in enumerate(page.tags[tag].value)])
        return file.getvalue()

    found = decode(without(3, 7))
    assert len(found.warnings) == 1 and found.warnings[0].startswith("2 tiles")
    assert (found.rgb[:128, 192:] == 255).all() and np.array_equal(found.rgb[:, :192], FIELD[:, :192])
    refused(without(3, both=False))
    refused(without(*range(16)))


def test_restart_markers_out_of_order() -> None:
    whole = bytearray(encoded(FIELD, "JPEG", quality=92, restart_marker_blocks=4))
    marks = [i for i in range(700, len(whole) - 1) if whole[i] == 0xFF and 0xD0 <= whole[i + 1] <= 0xD7]
    del whole[marks[3] : marks[6]]
    refused(bytes(whole))


def test_flipped_bits_are_mostly_found() -> None:
    """A JPEG has no checksum; what the decoder notices is refused."""
    whole = encoded(FIELD, "JPEG", quality=92)
    chance = random.Random(4)
    seen = 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(6):
            data[chance.randrange(700, len(data) - 2)] ^= 0x5A
        try:
            decode(bytes(data))
        except ImageError:
            seen += 1
    assert seen > 25
