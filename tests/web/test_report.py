"""Reports on paper, and checking them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from cases import services
from cases.models import Case, Report, User
from cases.reporting import pdf as reports
from cases.reporting import text
from cases.services import export
from inference.models import Analysis, ModelVersion, PatchTable
from tests.factories import add_slide
from tests.patching import printed_pages

from .conftest import Finish


def test_it_is_a_pdf_with_a_number_that_stays(client: Client, case: Case, finish: Finish) -> None:
    finish(0.3, "a.png")
    finish(0.6, "b.png", outside="No H&E.")
    address = reverse("cases:report", args=[case.pk])
    answer = client.get(address)
    assert answer["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-1.")
    client.get(address + "?paper=letter")
    report = Report.objects.get()
    assert report.sha256[:8] in answer["Content-Disposition"]


def test_a_number_from_before_tissue_was_measured_holds_on(client: Client, case: Case, finish: Finish) -> None:
    slide = finish(0.3, "a.png")
    Analysis.objects.update(empty_patches=None)
    PatchTable.objects.update(tissue_bytes=b"")
    data = export.case_data(export.with_everything(Case.objects.filter(pk=case.pk)).get(), case.owner)
    del data["review_recommended"], data["reasons"]
    for name in ("tissue_patches", "empty_patches"):
        del data["slides"][0]["analysis"][name]
    printed = Report.objects.create(case=case, author=case.owner, sha256=export.checksum(data), form=2)
    assert slide.pk and "The case has not changed since" in Client().get(printed.get_absolute_url()).content.decode()


def test_the_map_leaves_glass_as_it_is(finish: Finish) -> None:
    table = PatchTable.objects.get(analysis=finish(1.0, empty=4).analysis)
    picture = Image.new("RGB", (70, 46), "white")
    shown = reports._with_map(picture, table)
    assert shown.getpixel((68, 44)) == (255, 255, 255) and shown.getpixel((2, 2)) != (255, 255, 255)


def test_it_works_without_any_result(client: Client, case: Case) -> None:
    assert client.get(reverse("cases:report", args=[case.pk])).content.startswith(b"%PDF")


def test_it_fetches_nothing_that_a_title_may_ask_for(client: Client, case: Case) -> None:
    Case.objects.filter(pk=case.pk).update(title='<img src="file:///etc/passwd">', notes="<link rel=stylesheet href=x>")
    assert client.get(reverse("cases:report", args=[case.pk])).status_code == 200


def test_whoever_holds_it_can_check_it(client: Client, case: Case, done: object, alice: User) -> None:
    client.get(reverse("cases:report", args=[case.pk]))
    report = Report.objects.get()
    page = Client().get(report.get_absolute_url()).content.decode()
    assert report.sha256 in page
    assert "The case has not changed since" in page
    assert case.title not in page
    assert "Open the case" in client.get(report.get_absolute_url()).content.decode()
    services.sign_review(case, alice, "benign")
    assert "has changed since" in Client().get(report.get_absolute_url()).content.decode()


def test_strangers_get_none(case: Case, charlie: User, client_of: Callable) -> None:
    assert client_of(charlie).get(reverse("cases:report", args=[case.pk])).status_code == 404
    assert not Report.objects.exists()


def test_it_says_what_is_not_finished_and_which_images_the_mean_hides(
    case: Case, alice: User, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    for probability, name in ((0.1, "a.png"), (0.1, "b.png"), (0.9, "lesion.png")):
        finish(probability, name)
    add_slide(case, "waits.png")
    pages = printed_pages(monkeypatch)
    reports.make(case, alice, "https://x")
    (page,) = pages
    assert "1 of 4 images had not been analysed" in page
    assert "lesion.png (90.0\N{NO-BREAK SPACE}%)" in page and "Review: 1 of 3 images is malignant" in page


def test_a_case_that_several_models_judged_says_so(
    client: Client, case: Case, alice: User, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(0.2, "a.png")
    other = ModelVersion.objects.create(name="other", version="2", file="o.safetensors", sha256="8" * 64, metadata={})
    assert text.MIXED not in client.get(case.get_absolute_url()).content.decode()
    slide = finish(0.9, "b.png")
    Analysis.objects.filter(slide=slide).update(model_version=other)
    pages = printed_pages(monkeypatch)
    reports.make(case, alice, "https://x")
    for page in (*pages, client.get(case.get_absolute_url()).content.decode()):
        assert text.MIXED in page
