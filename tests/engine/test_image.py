"""The decoder: accepted formats, conversions and errors."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from inference.engine.image import ImageError, decode, encode_png


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_their_pixels(kind: str) -> None:
    decoded = decode(encoded(picture(), kind))
    assert decoded.format == kind
    assert np.array_equal(decoded.rgb, np.asarray(picture()))


def test_the_format_is_detected_by_content(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(picture(), "PNG"))
    assert decode(path).format == "PNG"


def test_jpeg_is_decoded() -> None:
    assert decode(encoded(picture(), "JPEG")).rgb.shape == (30, 40, 3)


def test_palette_and_grey_are_converted() -> None:
    grey = decode(encoded(picture("L"), "PNG")).rgb
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert decode(encoded(picture("P"), "PNG")).rgb.shape == (30, 40, 3)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    rgb = decode(encoded(Image.fromarray(values), "PNG")).rgb
    assert np.array_equal(rgb[..., 0], np.rint(values / 257).astype(np.uint8))


def test_transparency_becomes_white() -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    rgb = decode(encoded(image, "PNG")).rgb
    assert rgb[0, 0].tolist() == [10, 20, 30]
    assert rgb[5, 5].tolist() == [255, 255, 255]


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header states a size but that has no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"Dear colleague, please find attached", "not_an_image"),
        (encoded(picture(), "GIF"), "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "unsupported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (encoded(picture(), "PNG")[:600], "damaged"),
        (encoded(picture(size=(400, 300)), "JPEG")[:3000], "damaged"),
        (png_header(50_000, 50_000), "too_many_pixels"),
        (png_header(20_000, 20_000), "too_many_pixels"),
        (png_header(700, 460), "damaged"),
        (encoded(picture(size=(15, 100)), "PNG"), "too_small"),
    ],
)
def test_bad_input_has_a_code_and_a_sentence(content: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.code == code
    assert str(caught.value)[0].islower()  # the message follows the file name


def test_a_truncated_image_is_damaged_even_if_a_library_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError) as caught:
        decode(encoded(picture(), "PNG")[:600])
    assert caught.value.code == "damaged"


def test_a_lower_pixel_limit_is_applied() -> None:
    with pytest.raises(ImageError) as caught:
        decode(encoded(picture(size=(200, 200)), "PNG"), max_pixels=30_000)
    assert caught.value.code == "too_many_pixels"
    assert "200x200" in str(caught.value)


def test_the_stored_form_keeps_every_pixel_and_no_metadata() -> None:
    original = encoded(picture(), "JPEG", exif=b"Exif\0\0secret name", comment=b"secret name")
    rebuilt = encode_png(decode(original).rgb)
    assert b"secret" in original
    assert b"secret" not in rebuilt
    assert np.array_equal(decode(rebuilt).rgb, decode(original).rgb)
