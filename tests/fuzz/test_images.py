"""Thousands of damaged images: the decoder accepts or rejects each one, without crashes or memory growth."""

from __future__ import annotations

import os
import random
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cases.images import sandbox
from inference.engine.image import ImageError
from tests.engine import making
from tests.processes import decoder_pid

#: How many; 10,000 in the full run (see docs/reliability.md).
IMAGES = int(os.environ.get("FUZZ_IMAGES", "400"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))

KNOWN = {"empty", "not_an_image", "unsupported", "damaged", "too_many_pixels", "too_small", "undecodable"}


def seeds() -> list[bytes]:
    """Small images of every format, layout and compression that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    rgb, grey, deep = Image.fromarray(pixels), pixels[..., 0], pixels.astype(np.uint16) * 16
    profile = making.rgb_profile()
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "PNG", {"icc_profile": profile}),
        (rgb.convert("P"), "PNG", {"transparency": 3}),
        (rgb.convert("RGBA"), "PNG", {}),
        (rgb.convert("LA"), "PNG", {}),
        (rgb.convert("1"), "PNG", {}),
        (Image.fromarray(grey.astype(np.uint16) * 257), "PNG", {}),
        (rgb, "JPEG", {"icc_profile": profile}),
        (rgb, "JPEG", {"progressive": True, "optimize": True}),
        (rgb, "JPEG", {"restart_marker_blocks": 2}),
        (rgb.convert("L"), "JPEG", {"icc_profile": making.grey_profile()}),
        (rgb.convert("CMYK"), "JPEG", {"icc_profile": making.cmyk_profile()}),
        (rgb, "MPO", {"save_all": True, "append_images": [rgb]}),
        (rgb, "BMP", {}),
        (rgb.convert("P"), "BMP", {}),
        (rgb.convert("1"), "BMP", {}),
        (rgb, "WEBP", {"icc_profile": profile}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (rgb, "AVIF", {}),
        (rgb, "JPEG2000", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "packbits"}),
        (rgb.convert("P"), "TIFF", {}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (Image.fromarray(grey.astype(np.float32)), "TIFF", {}),
        (Image.fromarray(grey.astype(np.int32) * 70_000), "TIFF", {}),
    ]
    found = [making.encoded(image, kind, **options) for image, kind, options in wanted]
    compressions = ("zlib", "jpeg", "jpeg2000", "jpegxl", "lerc", "lzma", "png", "webp", "zstd")
    found += [making.tiff(pixels, compression=name, tile=(16, 16)) for name in compressions]
    planes = np.moveaxis(pixels, 2, 0)
    found += [
        making.tiff(pixels, (pixels[::2, ::2], {"subfiletype": 1}), pixels),
        making.tiff(deep, compression="lzw", predictor=2),
        making.tiff((pixels / 255).astype(np.float32), compression="zlib", predictor=3),
        making.tiff(deep, bitspersample=12),
        making.tiff(planes, photometric="minisblack", ome=True, metadata={"axes": "CYX"}),
        making.tiff(planes, photometric=None, imagej=True, metadata={"axes": "CYX"}),
        making.tiff(*planes, photometric="minisblack"),
        imagecodecs.png_encode(deep),
        imagecodecs.jpeg2k_encode(deep, level=0, bitspersample=12),
        making.dicom(pixels),
        making.dicom(pixels, "YBR_FULL_422", frame=making.encoded(rgb, "JPEG"), syntax="1.2.840.10008.1.2.4.50"),
        making.HEIC.read_bytes(),
    ]
    return found


def flip_bits(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def flip_in_the_head(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice([1, 2, 4])):
        data[chance.randrange(min(len(data), 128))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    return data


def cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data))]


def repeat(data: bytearray, chance: random.Random) -> bytearray:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 200)]
    return data[:start] + piece * chance.randrange(2, 30) + data[start:]


def numbers(data: bytearray, chance: random.Random) -> bytearray:
    """Replaces a length, offset or size by an extreme value."""
    value = chance.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 50_000, 65_500])
    at = chance.randrange(max(1, len(data) - 4))
    data[at : at + 4] = struct.pack(chance.choice(["<I", ">I"]), value)
    return data


def repair_png(data: bytearray, chance: random.Random) -> bytearray:
    """Damages a PNG chunk and corrects its checksum, so that the damage reaches the decoder."""
    data = chance.choice([flip_bits, flip_in_the_head, numbers])(data, chance)
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data


def splice(data: bytearray, chance: random.Random) -> bytearray:
    other = chance.choice(SEEDS)
    return data[: chance.randrange(len(data))] + bytearray(other[chance.randrange(len(other)) :])


MUTATIONS: list[Callable[[bytearray, random.Random], bytearray]] = [
    flip_bits, flip_in_the_head, cut, repeat, numbers, repair_png, splice,
]  # fmt: skip
SEEDS = seeds()


def mutant(number: int) -> bytes:
    """A damaged image that depends only on its number, so that failures can be reproduced."""
    chance = random.Random(SEED * 1_000_003 + number)
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if data:
            data = chance.choice(MUTATIONS)(data, chance)
    return bytes(data)


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def ingest(content: bytes, folder: Path) -> str:
    """The outcome of an upload: ``read``, or the error code."""
    with (
        tempfile.TemporaryFile(dir=folder) as source,
        tempfile.TemporaryFile(dir=folder) as png,
        tempfile.TemporaryFile(dir=folder) as small,
    ):
        source.write(content)
        source.flush()
        source.seek(0)
        try:
            made = sandbox.run("ingest", [source, png, small])
        except ImageError as error:
            return error.code
        png.seek(0)
        with Image.open(png) as stored:
            assert (stored.format, stored.mode, stored.size) == ("PNG", "RGB", (made["width"], made["height"]))
        return "read"


def test_the_original_images_are_accepted(tmp_path: Path) -> None:
    assert {ingest(seed, tmp_path) for seed in SEEDS} == {"read"}


@pytest.mark.slow
def test_damaged_images(tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.DECODER_SECONDS = 10
    sandbox.warm_up()
    helper = decoder_pid()
    before = resident(os.getpid())
    counted: Counter[str] = Counter()
    for number in range(IMAGES):
        code = ingest(mutant(number), tmp_path)
        assert code in KNOWN | {"read"}, (number, code)
        counted[code] += 1
    assert decoder_pid() == helper, "the decoder server did not crash"
    grown = resident(os.getpid()) - before
    assert grown < 100 * 2**20
    with capsys.disabled():
        print(f"\n{IMAGES} damaged images, seed {SEED}: {dict(counted)}; this process grew by {grown / 2**20:.0f} MiB")
