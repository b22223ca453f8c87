"""Very large slides in tiles: made once, cut right, shown to whom the slide is, gone with it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import moto
import numpy as np
import pytest
from django.conf import settings as configured
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from cases import services
from cases.images import sandbox, synthetic, tiles
from cases.models import Case, Slide, User
from cases.services import retention
from histopath.storage import Storage, _RangeReader
from inference.engine.image import write_png

from .test_slide import picture


@pytest.fixture
def wide(case: Case, media: object, model: object, tmp_path: Path) -> Slide:
    """A slide of 1500x1100: three by three tiles at its highest level, two by two below."""
    field = np.asarray(synthetic.draw(5, 40))
    path = tmp_path / "wide.png"
    Image.fromarray(np.tile(field, (3, 3, 1))[:1100, :1500]).save(path)
    slides, rejected = services.add_slides(case, [SimpleUploadedFile("wide.png", path.read_bytes())])
    assert not rejected
    return slides[0]


def pixels(slide: Slide) -> np.ndarray:
    with slide.file.open() as file:
        return np.asarray(Image.open(file).convert("RGB")).astype(int)


def address(slide: Slide, level: int, column: int, row: int) -> str:
    return reverse("cases:tile", args=[slide.pk, level, column, row])


def test_tiles_hold_the_pixels_of_the_slide(client: Client, wide: Slide) -> None:
    told = client.get(reverse("cases:tiles", args=[wide.pk])).json()
    assert told == {
        "width": 1500, "height": 1100, "tileSize": 512, "tileOverlap": 1, "minLevel": 9, "maxLevel": 11,
    }  # fmt: skip
    whole = pixels(wide)
    for column, row in ((0, 0), (1, 1), (2, 2), (2, 0), (0, 2)):
        tile = np.asarray(picture(client.get(address(wide, 11, column, row)))).astype(int)
        left, top = max(0, 512 * column - 1), max(0, 512 * row - 1)
        there = whole[top : 512 * (row + 1) + 1, left : 512 * (column + 1) + 1]
        assert tile.shape == there.shape
        # JPEG of quality 90: within some grey levels, and worse a pixel out of place.
        error = np.abs(tile - there)
        assert error.mean() < 2.5 and error.max() < 40
        assert error.mean() < 0.8 * np.abs(tile[1:, 1:] - there[:-1, :-1]).mean()


def test_each_level_is_half_of_the_one_above(client: Client, wide: Slide) -> None:
    lower = np.asarray(picture(client.get(address(wide, 10, 0, 0)))).astype(int)
    half = np.asarray(Image.fromarray(pixels(wide).astype(np.uint8)).reduce(2)).astype(int)
    assert np.abs(lower - half[:513, :513]).mean() < 2.5
    assert picture(client.get(address(wide, 9, 0, 0))).size == (375, 275)


@pytest.mark.parametrize("place", [(11, 3, 0), (11, 0, 3), (10, 2, 0), (9, 1, 0), (8, 0, 0), (12, 0, 0), (99, 9, 9)])
def test_there_are_no_tiles_beside_the_slide(client: Client, wide: Slide, place: tuple[int, int, int]) -> None:
    assert client.get(address(wide, *place)).status_code == 404


def test_tiles_are_nobody_elses(
    wide: Slide, charlie: User, reviewer: User, client_of: Callable[[User], Client]
) -> None:
    for path in (reverse("cases:tiles", args=[wide.pk]), address(wide, 11, 1, 1)):
        assert client_of(charlie).get(path).status_code == 404
        assert Client().get(path).status_code == 302
        answer = client_of(reviewer).get(path)
        assert answer.status_code == 200
        assert {"private", "no-store"} <= set(answer["Cache-Control"].split(", "))


def test_they_are_made_once_and_are_the_same_file_again(client: Client, wide: Slide) -> None:
    storage, name = wide.file.storage, tiles.name(wide)
    assert tiles.ensure(wide, wide.case.owner) == name
    made = storage.get_modified_time(name)
    with storage.open(name) as file:
        first = file.read()
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in zipfile.ZipFile(file).infolist())
    client.get(address(wide, 11, 0, 0))
    assert storage.get_modified_time(name) == made
    storage.delete(name)
    client.get(address(wide, 11, 0, 0))
    with storage.open(name) as file:
        assert file.read() == first


def test_they_go_with_the_slide(
    client: Client, wide: Slide, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    storage, name = wide.file.storage, tiles.name(wide)
    client.get(address(wide, 11, 0, 0))
    assert storage.exists(name)
    assert name not in retention.orphans(storage)[0]
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("cases:slide_delete", args=[wide.pk]))
    assert not storage.exists(name)


def test_a_slide_that_is_deleted_meanwhile_leaves_none(wide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sandbox.run

    def slow(*arguments: Any, **options: Any) -> dict[str, Any]:
        found = made(*arguments, **options)
        Slide.objects.filter(pk=wide.pk).delete()
        return found

    monkeypatch.setattr(sandbox, "run", slow)
    tiles.ensure(wide, wide.case.owner)
    assert not wide.file.storage.exists(tiles.name(wide))


def test_tiles_that_were_cut_short_are_made_again(client: Client, wide: Slide) -> None:
    """A full disk or a killed process, where the store is on another disk than the uploads."""
    path = address(wide, 11, 0, 0)
    first = client.get(path).content
    storage, name = wide.file.storage, tiles.name(wide)
    with storage.open(name) as file:
        half = file.read()[:-100]
    storage.delete(name)
    storage.save(name, ContentFile(half))
    assert client.get(path).content == first


def test_one_slide_at_a_time(client: Client, wide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one user; who asks for the same slide meanwhile gets the tiles that the first request made."""
    path, made = reverse("cases:tiles", args=[wide.pk]), []
    run = sandbox.run

    def slow(*arguments: Any) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(tiles, "PATIENCE", 0.01)
            answer = client.get(path, headers={"accept": "application/json"})
        assert answer.status_code == 429 and int(answer["Retry-After"]) > 0
        made.append(arguments)
        return run(*arguments)

    monkeypatch.setattr(sandbox, "run", slow)
    assert client.get(path).status_code == 200
    assert client.get(path).status_code == 200 and len(made) == 1


def test_very_large_slides_are_shown_in_tiles(client: Client, wide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tiles" not in client.get(wide.get_absolute_url()).context["viewer"]
    monkeypatch.setattr(tiles, "LARGE", 1000)
    monkeypatch.setattr(tiles, "OVERVIEW", 800)
    assert client.get(wide.get_absolute_url()).context["viewer"]["tiles"] == reverse("cases:tiles", args=[wide.pk])
    answer = client.get(reverse("cases:view", args=[wide.pk]))
    assert answer["Content-Type"] == "image/jpeg"
    assert picture(answer).size == (750, 550)


def test_a_damaged_store_is_a_missing_picture(client: Client, wide: Slide) -> None:
    wide.file.storage.delete(wide.file.name)
    assert client.get(address(wide, 11, 0, 0)).status_code == 404


def test_a_bucket_sends_the_tile_and_not_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(200):
            archive.writestr(f"11/{number}_0.jpg", np.random.default_rng(number).bytes(50_000))
    with moto.mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="slides")
        storage = Storage(bucket_name="slides", region_name="us-east-1")
        storage.save("previews/x.zip", ContentFile(content.getvalue()))
        fetched: list[int] = []
        real = _RangeReader.readinto
        monkeypatch.setattr(
            _RangeReader, "readinto", lambda self, buffer: fetched.append(real(self, buffer)) or fetched[-1]
        )
        with storage.open_in_pieces("previews/x.zip") as opened, zipfile.ZipFile(opened) as archive:
            assert archive.read("11/150_0.jpg") == np.random.default_rng(150).bytes(50_000)
        assert len(fetched) <= 6 and sum(fetched) < 300_000
        with pytest.raises(FileNotFoundError):
            storage.open_in_pieces("previews/none.zip")


@pytest.mark.slow
def test_the_largest_slide_stays_within_the_decoders_limits(tmp_path: Path) -> None:
    """150 megapixels of structure, by the real helper process with its real limits of memory and time."""
    side = int(configured.UPLOAD_MAX_PIXELS**0.5)
    field = np.asarray(synthetic.draw(5, 40))
    times = (side // field.shape[0] + 1, side // field.shape[1] + 1, 1)
    with (tmp_path / "slide.png").open("w+b") as stored, (tmp_path / "tiles.zip").open("w+b") as archive:
        write_png(Image.fromarray(np.tile(field, times)[:side, :side]), stored)
        stored.flush()
        sandbox.run("pyramid", [stored, archive], tiles.TILE, tiles.OVERLAP, tiles.OVERVIEW)
        names = zipfile.ZipFile(archive).namelist()
    across = -(-side // tiles.TILE)
    assert f"14/{across - 1}_{across - 1}.jpg" in names and "9/0_0.jpg" in names and "overview.jpg" in names
