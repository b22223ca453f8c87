"""A stored file that is missing is logged, counted, and said where it would be shown."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from cases.images.serving import FileMissing, is_missing
from cases.models import Slide, User
from cases.reporting import pdf
from cases.services import privacy
from tests.patching import printed_pages

As = Callable[[User], Client]


@pytest.fixture
def count(client: Client, settings: Any) -> Callable[[], float]:
    """The number of missing files that Prometheus reads."""
    settings.METRICS_TOKEN = "secret-of-prometheus"

    def read() -> float:
        said = client.get("/metrics", headers={"Authorization": "Bearer secret-of-prometheus"}).content.decode()
        (line,) = (line for line in said.splitlines() if line.startswith("histopath_missing_files_total "))
        return float(line.split()[1])

    return read


@pytest.fixture
def lost(finished: Slide) -> Slide:
    """A finished slide whose files are gone."""
    for file in (finished.file, finished.thumbnail):
        file.storage.delete(str(file.name))
    return finished


def test_it_is_logged_and_counted_wherever_it_is_read(
    lost: Slide, alice: User, as_user: As, count: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(("image", "thumbnail", "view", "tiles"), 1):
        before = count()
        assert as_user(alice).get(reverse(f"cases:{name}", args=[lost.pk])).status_code == 404
        assert count() == before + 1, name
        assert caplog.text.count("The stored file slides/") + caplog.text.count("The stored file thumbnails/") == number
    before = count()
    assert as_user(alice).get(reverse("cases:patch", args=[lost.pk, 0])).status_code == 404
    assert count() == before + 1


def test_so_it_is_where_nginx_sends_the_file(
    lost: Slide, alice: User, as_user: As, count: Callable[[], float], settings: Any
) -> None:
    settings.ACCEL_PREFIX = "/protected"
    before = count()
    assert as_user(alice).get(reverse("cases:image", args=[lost.pk])).status_code == 404
    assert count() == before + 1


def test_the_page_says_so_in_place_of_the_viewer(finished: Slide, alice: User, as_user: As) -> None:
    client = as_user(alice)
    sentence = "The stored image is missing from the file store"
    assert sentence not in client.get(finished.get_absolute_url()).content.decode()
    finished.file.storage.delete(str(finished.file.name))
    page = client.get(finished.get_absolute_url()).content.decode()
    assert sentence in page and "data-viewer" not in page and "slide.js" not in page
    assert "Analysis details" in page, "the result stays"


def test_a_thumbnail_says_so(lost: Slide, alice: User, as_user: As) -> None:
    answer = as_user(alice).get(reverse("cases:thumbnail", args=[lost.pk]))
    assert (answer.status_code, answer["Content-Type"]) == (404, "image/svg+xml")
    assert "Image missing" in answer.content.decode()


def test_a_program_is_told_with_a_code(lost: Slide, alice: User, as_user: As) -> None:
    answer = as_user(alice).get(reverse("api:slide-image", args=[lost.pk]))
    assert (answer.status_code, answer.json()["code"]) == (404, "file_missing")


def test_a_report_says_so_and_so_does_the_next_page(
    lost: Slide, alice: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = printed_pages(monkeypatch)
    answer = as_user(alice).get(reverse("cases:report", args=[lost.case_id]))
    assert answer.content.startswith(b"%PDF")
    assert "This image is not shown: its file is missing" in printed[0]
    (said,) = get_messages(answer.wsgi_request)
    assert "does not show 1 image" in str(said) and lost.original_name in str(said)


def test_a_damaged_thumbnail_is_logged(finished: Slide, alice: User, caplog: pytest.LogCaptureFixture) -> None:
    with finished.thumbnail.storage.open(str(finished.thumbnail.name), "wb") as file:
        file.write(b"no JPEG")
    assert pdf.make(finished.case, alice, "https://example.org").missing == [finished.original_name]
    assert "can't be read" in caplog.text


def test_an_export_of_ones_data_names_it(lost: Slide, alice: User) -> None:
    out = io.BytesIO()
    privacy.write_export(alice, out)
    with zipfile.ZipFile(out) as archive:
        assert json.loads(archive.read("data.json"))["missing_images"] == [str(lost.pk)]
        assert archive.namelist() == ["data.json"]


def test_a_store_that_does_not_answer_is_no_missing_file(finished: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(name: str) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(finished.file.storage, "exists", away)
    assert not is_missing(finished.file)
    assert str(FileMissing("x")) == "The stored image is missing from the file store."
