"""The page of a slide, and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from cases import services
from cases.models import AuditEvent, Case, Slide, User
from inference.jobs import queue
from inference.models import Analysis, PatchTable
from tests.factories import CaseFactory

from .conftest import Finish


def picture(answer: object) -> Image.Image:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]
    return Image.open(BytesIO(content))


def test_it_shows_a_verdict_with_all_that_belongs_to_it(client: Client, done: Slide) -> None:
    page = client.get(done.get_absolute_url()).content.decode()
    for expected in (
        "Benign",
        "20.0\N{NO-BREAK SPACE}%",
        "12 benign",
        "0 malignant",
        "uncalibrated",
        "Benign &lt; 50\N{NO-BREAK SPACE}%",
        "test 1",
    ):
        assert expected in page
    assert "not a medical device" in page
    # One probability; that of the other class and the confidence say the same again.
    assert "80.0\N{NO-BREAK SPACE}%" not in page
    assert "Confidence" not in page and "P(benign)" not in page


def test_the_result_comes_before_the_viewer_in_reading_order(client: Client, done: Slide) -> None:
    page = client.get(done.get_absolute_url()).content.decode()
    assert page.index('data-live="result"') < page.index("data-viewer") < page.index('data-live="facts"')


def test_an_undecided_probability_is_explained(client: Client, done: Slide) -> None:
    Analysis.objects.update(verdict="indeterminate", probability=0.5)
    assert "lies between the thresholds" in client.get(done.get_absolute_url()).content.decode()


def test_out_of_domain_shows_no_probability(client: Client, finish: Finish) -> None:
    slide = finish(0.9, outside="No H&E at all.")
    page = client.get(slide.get_absolute_url()).content.decode()
    assert "No H&amp;E at all." in page
    assert "P(malignant)" not in page
    assert "data-layer" not in page
    assert "the expected result" in page


def test_a_failed_analysis_says_why_and_offers_another_try(client: Client, slide: Slide) -> None:
    Analysis.objects.update(state="failed", error="The stored image is damaged.")
    page = client.get(slide.get_absolute_url()).content.decode()
    assert "The stored image is damaged." in page
    assert "Try again" in page


def test_the_viewer_gets_every_patch(client: Client, done: Slide) -> None:
    viewer = client.get(done.get_absolute_url()).context["viewer"]
    assert (viewer["width"], viewer["height"]) == (700, 460)
    assert len(viewer["patches"]) == 12
    assert viewer["patches"][0] == [0, 0, pytest.approx(0.2, abs=1e-4)]


def test_patches_without_tissue_are_counted_and_never_listed(client: Client, finish: Finish) -> None:
    slide = finish(0.2, empty=5)
    answer = client.get(slide.get_absolute_url())
    assert [patch[2] is None for patch in answer.context["viewer"]["patches"]] == [False] * 7 + [True] * 5
    assert set(answer.context["viewer"]["marked"]) < set(range(7))
    listed = answer.context["suspicious"] + answer.context["harmless"]
    assert {row["index"] for row in listed} == set(range(7))
    assert sum(bar["count"] for bar in answer.context["histogram"]["bars"]) == 7
    page = answer.content.decode()
    assert "5 patches without tissue were left out" in page and "7 benign" in page
    patch_map = picture(client.get(reverse("cases:map", args=[slide.pk]))).convert("RGBA")
    assert patch_map.getpixel((10, 10))[3] == 255 and patch_map.getpixel((690, 450))[3] == 0
    activation = picture(client.get(reverse("cases:activation", args=[slide.pk])))
    assert activation.mode == "LA"


def test_an_analysis_from_before_tissue_was_measured_shows_all_its_patches(client: Client, done: Slide) -> None:
    Analysis.objects.update(empty_patches=None)
    PatchTable.objects.update(tissue_bytes=b"")
    answer = client.get(done.get_absolute_url())
    assert (answer.context["patch_count"], answer.context["empty_count"]) == (12, 0)
    assert "without tissue" not in answer.content.decode()


def test_neighbours_are_in_the_order_of_names(client: Client, finish: Finish) -> None:
    ten, nine = finish(0.1, "10.png"), finish(0.1, "9.png")
    context = client.get(nine.get_absolute_url()).context
    assert (context["number"], context["next"], context["previous"]) == (1, ten.pk, None)


def test_neighbours_are_in_the_order_chosen_on_the_page_of_the_case(client: Client, finish: Finish) -> None:
    low, high = finish(0.1, "1.png"), finish(0.9, "2.png")
    page = client.get(low.case.get_absolute_url() + "?order=high").content.decode()
    assert f'{high.get_absolute_url()}?order=high"' in page
    context = client.get(low.get_absolute_url() + "?order=high").context
    assert (context["number"], context["previous"], context["next"]) == (2, high.pk, None)
    assert client.get(low.get_absolute_url() + "?order=%22%3E").context["order"] == ""


def test_a_case_without_any_result_says_so(client: Client, slide: Slide) -> None:
    from cases import services

    Analysis.objects.update(state="failed", error="The stored image is damaged.")
    services.refresh(slide.case)
    page = client.get(slide.case.get_absolute_url()).content.decode()
    assert "The image could not be analysed" in page


def test_the_pictures_have_the_right_size(client: Client, done: Slide) -> None:
    assert picture(client.get(reverse("cases:image", args=[done.pk]))).size == (700, 460)
    assert picture(client.get(reverse("cases:view", args=[done.pk]))).size == (700, 460)
    assert picture(client.get(reverse("cases:map", args=[done.pk]))).size == (700, 460)
    assert picture(client.get(reverse("cases:patch", args=[done.pk, 3]))).size == (224, 224)
    assert client.get(reverse("cases:patch", args=[done.pk, 12])).status_code == 404


def test_no_evidence_is_the_middle_of_the_activation_map(client: Client, done: Slide) -> None:
    values = np.asarray(picture(client.get(reverse("cases:activation", args=[done.pk]))))
    assert values.shape == (14, 22)
    assert set(np.unique(values)) == {128}


def test_there_is_no_map_before_a_result(client: Client, slide: Slide) -> None:
    assert client.get(reverse("cases:map", args=[slide.pk])).status_code == 404
    assert client.get(reverse("cases:activation", args=[slide.pk])).status_code == 404


def test_pictures_are_nobody_elses(done: Slide, charlie: User, reviewer: User, client_of: Callable) -> None:
    for name in ("image", "view", "thumbnail", "map", "activation"):
        address = reverse(f"cases:{name}", args=[done.pk])
        assert client_of(charlie).get(address).status_code == 404
        assert Client().get(address).status_code == 302
        answer = client_of(reviewer).get(address)
        assert answer.status_code == 200
        assert "no-store" in answer["Cache-Control"]
        b"".join(answer)


def test_rerun_keeps_the_old_result_in_sight(client: Client, done: Slide) -> None:
    client.post(reverse("cases:slide_rerun", args=[done.pk]))
    page = client.get(done.get_absolute_url()).content.decode()
    assert "Queued" in page
    assert "Earlier analyses" in page
    assert queue.claim_next(done.pk) is not None


def test_remove_takes_the_files_along(client: Client, done: Slide) -> None:
    storage, names = done.file.storage, (done.file.name, done.thumbnail.name)
    client.post(reverse("cases:slide_delete", args=[done.pk]))
    assert not Slide.objects.filter(pk=done.pk).exists()
    done.case.refresh_from_db()
    assert done.case.verdict == ""
    # Files go when the transaction commits; a test's never does.
    assert all(storage.exists(name) for name in names)


def test_an_image_that_two_remove_at_once_goes_once(done: Slide, alice: User) -> None:
    other = Slide.objects.get(pk=done.pk)
    for same in (done, other):
        services.remove_slide(same, alice)
    assert AuditEvent.objects.filter(kind=AuditEvent.Kind.REMOVED).count() == 1


def test_an_open_page_gets_the_maps_of_its_own_analysis(client: Client, done: Slide, case: Case) -> None:
    """Analysed again meanwhile, with another overlap, the patches are others."""
    data = client.get(reverse("cases:slide", args=[done.pk])).context["viewer"]
    patch = f"{data['patch_url']}0.png?analysis={data['analysis']}"
    before = [client.get(address).content for address in (data["activation"], patch)]
    services.request_again(case, [done], case.owner, overlap=0.5)
    assert [client.get(address).content for address in (data["activation"], patch)] == before
    assert client.get(reverse("cases:activation", args=[done.pk])).status_code == 404
    for wrong in ("nonsense", "00000000-0000-0000-0000-000000000000", ""):
        assert client.get(f"{reverse('cases:activation', args=[done.pk])}?analysis={wrong}").status_code == 404


def test_there_are_no_maps_out_of_domain(client: Client, done: Slide) -> None:
    Analysis.objects.filter(slide=done).update(verdict="out_of_domain")
    for name in ("cases:map", "cases:activation"):
        assert client.get(reverse(name, args=[done.pk])).status_code == 404


def test_a_corrected_magnification_is_that_of_the_images_too(client: Client, done: Slide, case: Case) -> None:
    form = {"title": case.title, "magnification": "400X", "overlap": "0.0", "tags": ""}
    assert client.post(reverse("cases:edit", args=[case.pk]), form).status_code == 302
    done.refresh_from_db()
    assert done.magnification == "400X"


def test_a_tag_beyond_those_of_the_list_is_a_filter(client: Client, case: Case, alice: User) -> None:
    for number in range(205):
        services.set_tags(CaseFactory(owner=alice), [f"t{number:03}"])
    for tag in ("t003", "t204"):
        assert client.get(reverse("cases:history"), {"tag": tag}).context["page"].paginator.count == 1
