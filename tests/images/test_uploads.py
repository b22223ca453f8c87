"""What people upload is decoded elsewhere, within limits, and nothing but its pixels is kept."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
import tempfile
import threading
import time
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cases import services
from cases.images import sandbox
from cases.models import Case, Slide, User
from inference.engine.image import ImageError, decode
from inference.models import Analysis, ModelVersion, State
from tests.factories import upload
from tests.patching import patch_service
from tests.processes import decoder_pid

SECRET = b"Erika Mustermann"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(size: tuple[int, int] = (300, 260)) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def chunks(png: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += 12 + length
    return found


def with_metadata(kind: str) -> bytes:
    """A picture whose every place for words holds a name."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x9286] = SECRET.decode()
    icc = b"\0" * 128 + SECRET
    match kind:
        case "PNG":
            words = PngInfo()
            words.add_text("Patient", SECRET.decode())
            words.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET.decode()}</x>")
            return encoded(picture(), kind, pnginfo=words, exif=exif, icc_profile=icc)
        case "JPEG":
            return encoded(picture(), kind, exif=exif, icc_profile=icc, comment=SECRET, xmp=b"<x>" + SECRET)
        case "TIFF":
            return encoded(picture(), kind, tiffinfo={270: SECRET.decode(), 315: SECRET.decode()}, icc_profile=icc)
        case _:
            return encoded(picture(), kind) + SECRET


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_only_pixels_are_kept(kind: str, case: Case, media: Path, model: ModelVersion) -> None:
    content = with_metadata(kind)
    assert SECRET in content
    _, rejected = services.add_slides(case, [upload("field", content)])
    assert not rejected
    slide = Slide.objects.get()
    with slide.file.open() as file:
        stored = file.read()
    assert set(chunks(stored)) == {b"IHDR", b"IDAT", b"IEND"}
    with slide.thumbnail.open() as file:
        small = file.read()
    with Image.open(BytesIO(small)) as image:
        assert not image.getexif() and "icc_profile" not in image.info and "comment" not in image.info
    assert SECRET not in stored + small
    assert np.array_equal(decode(stored).rgb, decode(content).rgb), "and the pixels are those of the upload"


def test_what_hangs_behind_an_image_is_dropped(case: Case, media: Path, model: ModelVersion) -> None:
    page = b"<script>alert(1)</script>PK\x03\x04"
    slides, _ = services.add_slides(case, [upload("both.png", encoded(picture(), "PNG") + page)])
    with slides[0].file.open() as file:
        assert b"script" not in file.read()


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
REFUSED = {
    "vector.svg": (SVG, "unsupported"),
    "vector.png": (SVG, "unsupported"),
    "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
    "moving.gif": (encoded(picture(), "GIF"), "unsupported"),
    "archive.png": (b"PK\x03\x04" + bytes(60), "unsupported"),
    "words.png": (b"Dear colleague", "not_an_image"),
    "empty.png": (b"", "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_formats_are_refused_by_content(name: str, case: Case, media: Path, model: ModelVersion) -> None:
    content, code = REFUSED[name]
    _, rejected = services.add_slides(case, [upload(name, content)])
    assert [problem.code for problem in rejected] == [code]
    assert not [path for path in media.rglob("*") if path.is_file()]


@lru_cache
def bomb(side: int) -> bytes:
    """A PNG whose header claims a square of this side and whose few bytes inflate to it: zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def resident(pid: int) -> int:
    """Most bytes that a process ever held in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_a_bomb_is_refused_and_this_process_never_swells(case: Case, media: Path, model: ModelVersion) -> None:
    content = bomb(12_300)
    assert len(content) < 2**20
    before = resident(os.getpid())
    _, rejected = services.add_slides(case, [upload("bomb.png", content)])
    assert [problem.code for problem in rejected] == ["too_many_pixels"]
    assert resident(os.getpid()) - before < 64 * 2**20


def test_decoding_that_needs_too_much_memory_is_refused(
    case: Case, media: Path, model: ModelVersion, settings: Any
) -> None:
    settings.DECODER_MEMORY = 400 * 2**20
    content = bomb(12_200)
    _, rejected = services.add_slides(case, [upload("large.png", content)])
    assert [problem.code for problem in rejected] == ["undecodable"]
    assert "memory" in rejected[0].reason
    settings.DECODER_MEMORY = 3 * 2**30
    slides, _ = services.add_slides(case, [upload()])
    assert slides, "and the next one is read"


def test_decoding_that_takes_too_long_is_ended(case: Case, media: Path, model: ModelVersion, settings: Any) -> None:
    settings.DECODER_SECONDS = 1
    content = bomb(12_200)
    started = time.monotonic()
    _, rejected = services.add_slides(case, [upload("slow.png", content)])
    assert time.monotonic() - started < 5
    assert [problem.code for problem in rejected] == ["undecodable"]
    assert "too long" in rejected[0].reason


def test_a_decoder_that_dies_is_replaced(case: Case, media: Path, model: ModelVersion) -> None:
    sandbox.warm_up()
    killed = decoder_pid()
    os.kill(killed, signal.SIGKILL)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    slides, rejected = services.add_slides(case, [upload()])
    assert slides and not rejected
    assert decoder_pid() != killed


def test_the_decoder_knows_no_secret(case: Case, media: Path, model: ModelVersion) -> None:
    services.add_slides(case, [upload()])  # it has imported what it needs
    pid = decoder_pid()
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"SECRET" not in environment and b"DATABASE" not in environment
    loaded = Path(f"/proc/{pid}/maps").read_text()
    assert "_sqlite3" not in loaded and "torch" not in loaded


def test_many_at_once_are_all_read(media: Path) -> None:
    """Threads share the one decoder and get each their own answer."""
    sizes = [(100 + n, 50 + n) for n in range(12)]
    found: dict[int, tuple[int, int]] = {}

    def read(n: int) -> None:
        with (media.parent / f"{n}.in").open("w+b") as source, (media.parent / f"{n}.png").open("w+b") as png:
            source.write(encoded(picture(sizes[n]), "PNG"))
            source.flush()
            source.seek(0)
            with (media.parent / f"{n}.jpg").open("w+b") as small:
                made = sandbox.run("ingest", [source, png, small])
        found[n] = (made["width"], made["height"])

    threads = [threading.Thread(target=read, args=(n,)) for n in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict(enumerate(sizes))


def test_a_full_disk_is_said_and_leaves_nothing(case: Case, media: Path, model: ModelVersion, settings: Any) -> None:
    settings.MIN_FREE_DISK = 2**62
    slides, rejected = services.add_slides(case, [upload()])
    assert not slides
    assert [problem.code for problem in rejected] == ["storage"]
    assert not Slide.objects.exists() and not Analysis.objects.exists()


def test_what_an_image_becomes_leaves_the_reserve_too(case: Case, media: Path, settings: Any) -> None:
    """A small file may become a large one; it is asked while it is written, as others write at the same time."""
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
    sent = BytesIO()
    Image.fromarray(noise).save(sent, "JPEG", quality=20)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as png, tempfile.TemporaryFile() as small:
        source.write(sent.getvalue())
        source.seek(0)
        settings.MIN_FREE_DISK = shutil.disk_usage(tempfile.gettempdir()).free - 8 * 2**20
        with pytest.raises(OSError, match="No space left") as raised:
            sandbox.run("ingest", [source, png, small])
        assert raised.value.errno == errno.ENOSPC
        assert os.fstat(png.fileno()).st_size < 12 * 2**20 < noise.nbytes


def test_a_row_that_fails_leaves_no_file(
    case: Case, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError

    patch_service(monkeypatch, "analyse", broken)
    with pytest.raises(RuntimeError):
        services.add_slides(case, [upload()])
    assert not [path for path in media.rglob("*") if path.is_file()]
    assert not Slide.objects.exists()


def test_too_large_a_file_is_named_and_not_kept_whole(
    case: Case, alice: User, media: Path, model: ModelVersion, settings: Any
) -> None:
    settings.UPLOAD_MAX_BYTES = 100_000
    client = Client()
    client.force_login(alice)
    files = [SimpleUploadedFile("large.png", bytes(3_000_000)), upload("good.png", encoded(picture((64, 64)), "PNG"))]
    answer = client.post(
        reverse("cases:add_slides", args=[case.pk]), {"images": files}, headers={"Accept": "application/json"}
    )
    assert [problem["code"] for problem in answer.json()["errors"]] == ["too_large"]
    assert Slide.objects.get().original_name == "good.png"


def test_too_long_a_request_is_refused_unread(
    case: Case, alice: User, media: Path, model: ModelVersion, settings: Any
) -> None:
    settings.UPLOAD_MAX_REQUEST_BYTES = 10_000
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    answer = client.post(reverse("cases:add_slides", args=[case.pk]), {"images": [upload("a.png", bytes(20_000))]})
    assert answer.status_code == 413
    assert not Slide.objects.exists()


def test_a_slide_and_its_analysis_are_one(case: Case, media: Path, model: ModelVersion) -> None:
    """No moment at which a slide is stored and not queued."""
    slides, _ = services.add_slides(case, [upload(), upload("second.png")])
    assert Analysis.objects.filter(slide__in=slides, state=State.QUEUED).count() == 2


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\boot.ini", "a/b.png", "\x00nul.png", "\u202egnp.exe"])
def test_names_are_data_and_no_paths(name: str, case: Case, media: Path, model: ModelVersion) -> None:
    slides, _ = services.add_slides(case, [SimpleUploadedFile("x.png", encoded(picture(), "PNG"))])
    slide = slides[0]
    assert Path(slide.file.path).is_relative_to(media)
    from cases.images.intake import clean_name

    cleaned = clean_name(name)
    assert not {"/", "\\", "\x00", "\u202e"} & set(cleaned)


def test_the_refusal_says_which_work_failed(tmp_path: Path) -> None:
    with (tmp_path / "in").open("w+b") as source, (tmp_path / "out").open("w+b") as out:
        source.write(b"nothing")
        source.flush()
        source.seek(0)
        with pytest.raises(ImageError) as refused:
            sandbox.run("crop", [source, out], [0, 0, 9, 9])
    assert refused.value.code == "not_an_image"


def test_nginx_sends_the_file_where_it_is_told_to(slide: Slide, alice: User, charlie: User, settings: Any) -> None:
    settings.ACCEL_PREFIX = "/protected"
    path = reverse("cases:image", args=[slide.pk])
    client, stranger = Client(), Client()
    client.force_login(alice)
    stranger.force_login(charlie)
    answer = client.get(path)
    assert answer["X-Accel-Redirect"] == f"/protected/{slide.file.name}" and answer.content == b""
    assert "X-Accel-Redirect" not in stranger.get(path)
