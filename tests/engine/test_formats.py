"""Which picture of a file is read, and what is said of files that are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.engine.formats import table
from inference.engine.image import ImageError, decode
from tests.engine.making import HEIC, cmyk_profile, dicom, encoded, stored_in, tiff, tissue

FIELD = tissue()
OTHER = tissue(5)
SMALL = np.asarray(Image.fromarray(FIELD).resize((80, 66)))
LABEL = np.full((60, 90, 3), 240, np.uint8)
PLANES = np.moveaxis(FIELD, 2, 0)


def close(content: bytes, expected: Any = FIELD, by: float = 0.01) -> tuple[str, ...]:
    """The warnings of a file that shows ``expected``."""
    found = decode(content)
    assert found.rgb.shape == np.asarray(expected).shape
    assert np.abs(found.rgb.astype(int) - np.asarray(expected)).mean() <= by
    return found.warnings


def refusal(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.code == "unsupported"
    return str(caught.value)


def test_thumbnails_labels_and_levels_are_never_the_picture() -> None:
    assert not close(tiff((SMALL, {"subfiletype": 1}), FIELD))
    assert not close(tiff(FIELD, (SMALL, {"subfiletype": 1})))
    huge = np.tile(LABEL, (6, 6, 1))
    for name in ("label 387x463", "Aperio Image Library v11\nmacro 1280x431", "<a><ImageType>Overview</ImageType></a>"):
        assert not close(tiff((huge, {"description": name}), FIELD))
    level = FIELD[::2, ::2]
    tiled = {"tile": (64, 64)}
    assert not close(tiff((FIELD, tiled), (level, tiled)))
    assert not close(tiff((FIELD, {"subifds": 1}), (level, {"subfiletype": 1})))
    assert not close(tiff((SMALL, {"subifds": 1, "subfiletype": 1}), FIELD)), "full resolution inside a thumbnail"


def test_several_pictures_are_named_with_page_and_number() -> None:
    (warning,) = close(tiff(OTHER, FIELD, FIELD)[:], OTHER)
    assert "page 1 of 3" in warning and "240×200" in warning
    (warning,) = close(tiff(LABEL, FIELD))
    assert "page 2 of 2" in warning
    found = decode(tiff(OTHER, FIELD, (SMALL, {"subfiletype": 1})))
    assert found.pages == (1, 2)
    assert np.array_equal(decode(tiff(OTHER, FIELD), page=2).rgb, FIELD)
    animated = encoded(FIELD, "PNG", save_all=True, append_images=[Image.fromarray(OTHER)])
    assert "2 pictures" in close(animated)[0]
    stereo = encoded(FIELD, "MPO", save_all=True, append_images=[Image.fromarray(OTHER)], quality=95)
    assert "2 pictures" in close(stereo, by=4)[0]


def test_red_green_and_blue_in_pages_of_their_own() -> None:
    ome = {"photometric": "minisblack", "ome": True}
    named = {"axes": "CYX", "Channel": {"Name": ["Blue", "Green", "Red"]}}
    assert not close(tiff(PLANES[::-1], metadata=named, **ome))
    assert not close(tiff(PLANES, metadata={"axes": "CYX"}, **ome))
    assert "page 1 of 6" in close(tiff(np.stack([PLANES, PLANES]), metadata={"axes": "ZCYX"}, **ome))[0]
    assert not close(tiff(PLANES, photometric=None, imagej=True, metadata={"axes": "CYX", "mode": "composite"}))
    grey = {"photometric": "minisblack"}
    names = [(285, 2, 0, name, True) for name in ("Green", "Red", "Blue")]
    pages = [(PLANES[i], {"extratags": [name]}) for i, name in zip((1, 0, 2), names, strict=True)]
    assert not close(tiff(*pages, **grey))
    assert "put together" in close(tiff(*PLANES, **grey))[0]
    assert not close(tiff(PLANES, planarconfig="separate"))
    assert not close(tiff(FIELD, photometric="minisblack", planarconfig="contig"))


def test_other_channels_are_refused_by_name() -> None:
    named = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "TRITC"]}}
    assert "DAPI, FITC, TRITC" in refusal(tiff(PLANES, photometric="minisblack", ome=True, metadata=named))
    two = {"axes": "CYX"}
    assert "2 separate channels" in refusal(tiff(PLANES[:2], photometric="minisblack", ome=True, metadata=two))


def test_three_grey_fields_are_not_one_picture() -> None:
    fields = [tissue(number)[..., 0] for number in (3, 5, 7)]
    (warning,) = close(tiff(*fields, photometric="minisblack"), np.repeat(fields[0][..., None], 3, -1))
    assert "page 1 of 3" in warning


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        *(
            {"compression": name}
            for name in ("lzw", "zlib", "adobe_deflate", "packbits", "zstd", "lzma", "png", "lerc")
        ),
        {"compression": "lzw", "predictor": 2, "tile": (64, 64)},
        {"compression": "jpeg2000", "tile": (64, 64)},
        {"compression": "jpegxl", "tile": (64, 64)},
        {"compression": "webp", "compressionargs": {"lossless": True}},
    ],
    ids=str,
)
def test_varieties_of_tiff(options: dict[str, Any], byteorder: str) -> None:
    options = {key: value for key, value in options.items() if key != "bigtiff"}
    assert not close(tiff(FIELD, byteorder=byteorder, **options))


def test_more_varieties() -> None:
    five = np.dstack([FIELD, FIELD[..., :2]])
    assert not close(tiff(five, extrasamples=["unspecified", "unspecified"]))
    assert not close(
        encoded(Image.fromarray(FIELD).convert("P"), "TIFF"), Image.fromarray(FIELD).convert("P").convert("RGB")
    )
    floats = (FIELD / 255).astype(np.float32)
    assert not close(tiff(floats, compression="zlib", predictor=3))
    assert not close(tiff(floats, compression="lerc"))
    ycbcr = np.asarray(Image.fromarray(FIELD).convert("YCbCr"))
    subsampling = [(530, 3, 2, (1, 1), True)]
    content = bytearray(tiff(ycbcr, compression="lzw", extratags=subsampling))
    at = content.index(bytes([6, 1, 3, 0, 1, 0, 0, 0, 2, 0]))
    content[at + 8] = 6
    assert not close(bytes(content), by=1.5)


def test_other_formats() -> None:
    assert not close(HEIC.read_bytes(), tissue(3, 96, 64), 6)
    for kind, by in (("WEBP", 6), ("AVIF", 6), ("JPEG2000", 0), ("BMP", 0), ("PNG", 0)):
        assert not close(encoded(FIELD, kind), by=by)
    assert not close(dicom(FIELD))
    frame = encoded(FIELD, "JPEG2000")
    assert not close(dicom(FIELD, frame=frame, syntax="1.2.840.10008.1.2.4.90"))
    assert "3 frames" in refusal(dicom(FIELD, NumberOfFrames=3, PixelData=FIELD.tobytes() * 3))
    printed = stored_in(FIELD, cmyk_profile(), "CMYK")
    assert "CMYK" in refusal(encoded(printed, "TIFF"))


REFUSED = {
    "gif": encoded(FIELD, "GIF"),
    "jpeg xl": b"\xff\x0a" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "pdf": b"%PDF-1.7",
    "photoshop": b"8BPS" + bytes(100),
    "czi": b"ZISRAWFILE" + bytes(100),
    "macos": b"\0\5\x16\7" + bytes(100),
    "old jpeg in tiff": tiff(FIELD).replace(
        bytes([3, 1, 3, 0, 1, 0, 0, 0, 1, 0]), bytes([3, 1, 3, 0, 1, 0, 0, 0, 6, 0])
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named_with_advice(name: str) -> None:
    said = refusal(REFUSED[name])
    assert said.startswith(("is a", "has ", "holds ")) and said.endswith(".")
    assert "is not a" not in said


def test_names_say_nothing(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        for name in ("field", "field.txt", "field.png", "field.dcm"):
            path = tmp_path / name
            path.write_bytes(encoded(FIELD, kind))
            assert decode(path).format == kind


def test_the_page_of_formats_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "formats.md"
    assert page.read_text() == "\n".join(table.page()) + "\n"
    assert all(
        re.search(rf"\b{name}\b", table.NAMES) for name in ("PNG", "JPEG", "TIFF", "BMP", "WebP", "HEIC", "AVIF")
    )
