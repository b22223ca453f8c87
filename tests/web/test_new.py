"""Opening a case."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client
from django.urls import reverse

from cases.models import Case, User
from inference.models import ModelVersion
from tests.factories import upload

NEW = "/cases/new/"
JSON = {"accept": "application/json"}


def fields(**extra: object) -> dict[str, object]:
    return {"title": "A case", "magnification": "200X", "overlap": "0.0", "tags": "", **extra}


def test_it_opens_a_case_with_its_images(client: Client, alice: User, media: object, model: ModelVersion) -> None:
    answer = client.post(NEW, fields(images=[upload("a.png"), upload("a.png")], tags="Core, breast ,core"))
    case = Case.objects.get()
    assert answer.headers["Location"] == case.get_absolute_url()
    assert [slide.original_name for slide in case.slides.all()] == ["a.png", "a.png"]
    assert [tag.name for tag in case.tags.all()] == ["breast", "core"]
    assert case.owner == alice


def test_it_names_bad_files_and_keeps_good_ones(client: Client, media: object, model: ModelVersion) -> None:
    bad = [upload("note.png", b"only text"), upload("empty.png", b"")]
    page = client.post(NEW, fields(images=[upload("good.png"), *bad]), follow=True).content.decode()
    assert "1 image added" in page
    assert "note.png is not a PNG, JPEG, TIFF, BMP, WebP, HEIC, AVIF, JPEG 2000 or DICOM image" in page
    assert "empty.png" in page
    assert Case.objects.get().slides.count() == 1


def test_it_takes_the_first_file_as_title(client: Client, media: object, model: ModelVersion) -> None:
    client.post(NEW, fields(title="", images=[upload("SOB_B_A-14.png")]))
    assert Case.objects.get().title == "SOB_B_A-14"


def test_it_says_what_is_wrong(client: Client) -> None:
    answer = client.post(NEW, fields(magnification="7X", title="x" * 200))
    assert answer.status_code == 400
    assert answer.content.decode().count("errorlist") == 2
    assert not Case.objects.exists()


def test_it_keeps_nothing_without_a_model(client: Client, media: object, db: None) -> None:
    ModelVersion.objects.update(is_active=False)
    page = client.post(NEW, fields(images=[upload()]), follow=True).content.decode()
    assert "No image was stored" in page
    assert Case.objects.get().slides.count() == 0


def test_a_script_gets_addresses_and_reasons(client: Client, media: object, model: ModelVersion) -> None:
    opened = client.post(NEW, fields(), headers=JSON)
    assert opened.status_code == 201
    files = {"images": [upload("a.png"), upload("b.png", b"no")]}
    answer = client.post(opened.json()["add_slides"], files, headers=JSON)
    assert [slide["filename"] for slide in answer.json()["slides"]] == ["a.png"]
    assert answer.json()["errors"][0]["filename"] == "b.png"
    assert client.post(NEW, fields(magnification="7X"), headers=JSON).json()["errors"]["magnification"]


def test_more_than_the_server_takes_is_refused_unread(client: Client, settings: object) -> None:
    settings.UPLOAD_MAX_REQUEST_BYTES = 1000  # type: ignore[attr-defined]
    answer = client.post(NEW, fields(notes="x" * 2000))
    assert answer.status_code == 413
    assert "Upload too large" in answer.content.decode()


def test_try_it_opens_a_case_of_synthetic_images(client: Client, media: object, model: ModelVersion) -> None:
    page = client.post(reverse("cases:try"), follow=True).content.decode()
    assert "synthetic images" in page
    assert Case.objects.get(is_synthetic=True).slides.count() == 3


def test_anonymous_people_are_asked_to_sign_in() -> None:
    assert Client().get(NEW).headers["Location"].startswith("/accounts/login/")


def test_whose_session_ended_while_they_wrote_comes_back_to_the_form(case: Case) -> None:
    client = Client()
    review = reverse("cases:review", args=[case.pk])
    came_from = f"http://testserver{case.get_absolute_url()}?order=high"
    answer = client.post(review, {"reading": "benign"}, headers={"Referer": came_from})
    assert answer.headers["Location"] == f"/accounts/login/?next={case.get_absolute_url()}%3Forder%3Dhigh"
    assert "nothing was saved" in client.get(answer.headers["Location"]).content.decode()
    elsewhere = client.post(review, {"reading": "benign"}, headers={"Referer": "https://example.org/cases/"})
    assert elsewhere.headers["Location"] == "/accounts/login/?next=/"
    script = client.post(
        reverse("cases:add_slides", args=[case.pk]), {"images": upload()}, headers={"Accept": "application/json"}
    )
    assert (script.status_code, script.json()["errors"][0]["code"]) == (401, "signed_out")


def test_edit_assigns_a_second_reader(
    client: Client, case: Case, reviewer: User, charlie: User, client_of: Callable
) -> None:
    address = reverse("cases:edit", args=[case.pk])
    assert client.post(address, fields(assigned_to=charlie.pk)).status_code == 400
    client.post(address, fields(assigned_to=reviewer.pk, is_blinded="on", tags="x"))
    case.refresh_from_db()
    assert case.assigned_to == reviewer
    assert case.is_blinded


def test_a_single_image_leads_to_its_result(client: Client, media: object, model: ModelVersion) -> None:
    page = client.get(NEW + "?mode=single").content.decode()
    assert 'aria-current="page"><strong>Single image' in page
    assert " multiple" not in page
    answer = client.post(NEW + "?mode=single", fields(images=[upload("a.png")]))
    assert answer.headers["Location"] == Case.objects.get().slides.get().get_absolute_url()


def test_single_means_one(client: Client, media: object, model: ModelVersion) -> None:
    answer = client.post(NEW + "?mode=single", fields(images=[upload("a.png"), upload("b.png")]))
    assert answer.status_code == 400
    assert "Choose one image" in answer.content.decode()
    assert not Case.objects.exists()
