"""Colours, orientation and depth: what is analysed is what a colour-managed viewer shows."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from inference.engine.formats import colour
from inference.engine.image import ImageError, decode
from tests.engine.making import (
    cmyk_profile,
    dicom,
    encoded,
    grey_profile,
    rgb_profile,
    stored_in,
    tiff,
    tissue,
    with_chunk,
)

FIELD = tissue()
GREY = np.asarray(Image.fromarray(FIELD).convert("L"))
LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
]
#: How far lossy coding may take the mean.
LOSSY: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 97, "subsampling": 0}),
    ("AVIF", {"quality": 97}),
    ("HEIF", {"quality": 97}),
]


def far(first: Any, second: Any) -> float:
    """Mean difference of two pictures of the same size."""
    one, other = np.asarray(first, dtype=int), np.asarray(second, dtype=int)
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize(
    "profile",
    [rgb_profile(), rgb_profile(colour.ADOBE_RGB_PRIMARIES), rgb_profile(colour.SRGB_PRIMARIES, 1.8)],
    ids=["Display P3", "Adobe RGB", "gamma 1.8"],
)
@pytest.mark.parametrize(("kind", "options"), [*LOSSLESS, *LOSSY[:2]])
def test_an_embedded_profile_is_applied(kind: str, options: dict[str, Any], profile: bytes) -> None:
    found = decode(encoded(stored_in(FIELD, profile), kind, icc_profile=profile, **options))
    assert far(found.rgb, FIELD) < 2 and not found.warnings
    assert far(stored_in(FIELD, profile), FIELD) > 2.5, "and it matters"


def test_a_grey_profile_is_applied() -> None:
    linear = np.rint(255 * np.where(GREY > 10, ((GREY / 255 + 0.055) / 1.055) ** 2.4, GREY / 255 / 12.92))
    content = encoded(Image.fromarray(linear.astype(np.uint8)), "PNG", icc_profile=grey_profile(1.0))
    assert far(decode(content).rgb[..., 0], GREY) < 1.5


def test_a_profile_of_srgb_leaves_every_pixel() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode(encoded(FIELD, "PNG", icc_profile=srgb)).rgb, FIELD)


def test_sixteen_bits_are_kept_until_the_profile_is_applied() -> None:
    linear = np.where(FIELD > 10, ((FIELD / 255 + 0.055) / 1.055) ** 2.4, FIELD / 255 / 12.92)
    profile = rgb_profile(colour.SRGB_PRIMARIES, 1.0)
    deep = np.rint(linear * 65535).astype(np.uint16)
    content = tiff(deep, extratags=[(34675, 7, len(profile), profile, True)])
    assert far(decode(content).rgb, FIELD) < 0.6


@pytest.mark.parametrize("profile", [b"\0" * 128 + b"nothing", rgb_profile()[:300], grey_profile()])
@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_a_broken_or_foreign_profile_is_named_and_ignored(kind: str, options: dict[str, Any], profile: bytes) -> None:
    found = decode(encoded(FIELD, kind, icc_profile=profile, **options))
    assert found.warnings == (colour.BROKEN_PROFILE,)
    assert np.array_equal(found.rgb, FIELD)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 97}), ("TIFF", {})])
def test_cmyk_needs_its_profile(kind: str, options: dict[str, Any]) -> None:
    profile = cmyk_profile()
    printed = stored_in(FIELD, profile, "CMYK")
    assert far(decode(encoded(printed, kind, icc_profile=profile, **options)).rgb, FIELD) < 2.5
    for broken in (b"", b"\0" * 200):
        with pytest.raises(ImageError, match=r"CMYK.*profile") as refused:
            decode(encoded(printed, kind, icc_profile=broken, **options))
        assert refused.value.code == "unsupported"


def test_png_says_its_colours_in_chunks() -> None:
    linear = np.rint(255 * np.where(FIELD > 10, ((FIELD / 255 + 0.055) / 1.055) ** 2.4, FIELD / 255 / 12.92))
    png = encoded(linear.astype(np.uint8), "PNG")
    assert far(decode(with_chunk(png, b"gAMA", struct.pack(">I", 100_000))).rgb, FIELD) < 1.5
    # sRGB counts before gAMA, and the usual gamma changes nothing.
    both = with_chunk(with_chunk(png, b"gAMA", struct.pack(">I", 100_000)), b"sRGB", b"\0")
    assert np.array_equal(decode(both).rgb, linear.astype(np.uint8))
    usual = with_chunk(encoded(FIELD, "PNG"), b"gAMA", struct.pack(">I", 45_455))
    assert np.array_equal(decode(usual).rgb, FIELD)
    wide = encoded(stored_in(FIELD, rgb_profile()), "PNG")
    chroma = [round(part * 100_000) for part in (*colour.D65, *colour.PRIMARIES[12])]
    tagged = with_chunk(with_chunk(wide, b"gAMA", struct.pack(">I", 45_455)), b"cHRM", struct.pack(">8I", *chroma))
    assert far(decode(tagged).rgb, FIELD) < 1
    assert far(decode(with_chunk(wide, b"cICP", bytes([12, 13, 0, 1]))).rgb, FIELD) < 2
    with pytest.raises(ImageError, match="high-dynamic-range"):
        decode(with_chunk(wide, b"cICP", bytes([9, 16, 0, 1])))


def test_adobe_rgb_of_a_camera_is_known_by_exif_alone() -> None:
    exif = Image.Exif()
    exif[0x8769] = {0xA005: {1: "R03"}}
    wide = stored_in(FIELD, rgb_profile(colour.ADOBE_RGB_PRIMARIES))
    content = encoded(wide, "JPEG", quality=97, subsampling=0, exif=exif)
    assert far(decode(content).rgb, FIELD) < 2


def test_lab_and_inverted_grey() -> None:
    lab = ImageCms.profileToProfile(
        Image.fromarray(FIELD), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert far(decode(encoded(lab, "TIFF")).rgb, FIELD) < 1
    assert far(decode(tiff(255 - GREY, photometric="miniswhite")).rgb[..., 0], GREY) == 0
    assert far(decode(dicom(255 - GREY, "MONOCHROME1")).rgb[..., 0], GREY) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [*LOSSLESS, LOSSY[0]])
def test_orientation_is_applied_in_every_format(kind: str, options: dict[str, Any], orientation: int) -> None:
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(FIELD)
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[274] = orientation
    how = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}
    found = decode(encoded(stored, kind, **options, **how))
    assert found.image.size == upright.size
    assert far(found.rgb, FIELD) < (0.01 if kind != "JPEG" else 2)


WIDE = FIELD.astype(np.uint32)
DEEP: dict[str, Any] = {
    "16 bits": (WIDE * 257).astype(np.uint16),
    "15 bits with Photoshop's top": (WIDE * 32768 // 255).astype(np.uint16),
    "14 in 16": (WIDE * 16383 // 255).astype(np.uint16),
    "12 in 16": (WIDE * 4095 // 255).astype(np.uint16),
    "10 in 16": (WIDE * 1023 // 255).astype(np.uint16),
    "8 in 16": WIDE.astype(np.uint16),
    "8 in 32": WIDE,
    "32 bits": WIDE * 16843009,
    "signed": (WIDE * 128).astype(np.int16),
    "signed around zero": (WIDE.astype(np.int32) * 257 - 32768).astype(np.int16),
    "half floats to 1": (WIDE / 255).astype(np.float16),
    "floats to 1": (WIDE / 255).astype(np.float32),
    "doubles to 1": WIDE / 255,
    "floats to 255": WIDE.astype(np.float32),
    "floats to 65535": (WIDE * 257).astype(np.float32),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("layout", ["together", "planes", "grey"])
def test_samples_are_scaled_by_the_range_they_use(name: str, layout: str) -> None:
    values = DEEP[name]
    if layout == "grey":
        assert far(decode(tiff(values[..., 0], photometric="minisblack")).rgb[..., 0], FIELD[..., 0]) < 1.1
    elif layout == "planes":
        planes = np.moveaxis(values, 2, 0)
        assert far(decode(tiff(planes, planarconfig="separate")).rgb, FIELD) < 1.1
    else:
        assert far(decode(tiff(values, compression="zlib", tile=(64, 64))).rgb, FIELD) < 1.1


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_samples_are_scaled_by_their_bits(bits: int) -> None:
    deep = (WIDE * (2**bits - 1) // 255).astype(np.uint16)
    # A dark picture too: the bits are those of the file, not of its brightest pixel.
    assert far(decode(tiff(deep // 4, bitspersample=bits)).rgb, FIELD // 4) < 1.1


def test_tags_name_the_range() -> None:
    dark = (WIDE * 4095 // 255 // 4).astype(np.uint16)
    tags = [(340, 3, 3, (0, 0, 0), True), (341, 3, 3, (4095, 4095, 4095), True)]
    assert far(decode(tiff(dark, extratags=tags)).rgb, FIELD // 4) < 1.1
    assert far(decode(dicom(GREY.astype(np.uint16) * 4, "MONOCHROME2", bits=12)).rgb[..., 0], GREY // 4) < 1.1


def test_deep_png_and_jpeg_2000() -> None:
    twelve = (WIDE * 4095 // 255).astype(np.uint16)
    assert far(decode(imagecodecs.png_encode(twelve)).rgb, FIELD) < 1.1
    assert far(decode(imagecodecs.jpeg2k_encode(twelve, level=0, bitspersample=12)).rgb, FIELD) < 1.1
    assert far(decode(imagecodecs.jpeg2k_encode(FIELD, level=0)).rgb, FIELD) == 0


@pytest.mark.parametrize("odd", [np.nan, np.inf, -300.0])
def test_a_scale_that_is_unknown_is_said(odd: float) -> None:
    values = WIDE.astype(np.float32)
    values[5, 5] = odd
    with pytest.raises(ImageError) as refused:
        decode(tiff(values))
    assert refused.value.code == "unsupported"


def test_transparency_that_says_nothing_is_ignored_with_a_word() -> None:
    clear = np.dstack([FIELD, np.zeros_like(GREY)])
    for content in (encoded(clear, "PNG"), tiff(clear, extrasamples=["unassalpha"])):
        found = decode(content)
        assert np.array_equal(found.rgb, FIELD) and len(found.warnings) == 1
    half = np.dstack([FIELD // 2, np.full_like(GREY, 128)])
    assert far(decode(tiff(half, extrasamples=["assocalpha"])).rgb, FIELD // 2 + 127) < 1.1
