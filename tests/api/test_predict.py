"""The prediction calls: upstream's shapes and what is added to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.limits.concurrency import THREADS
from cases.limits.quotas import CapacityExceeded
from cases.models import ApiToken, AuditEvent, Case, Slide, Submission, User
from cases.reporting import text
from cases.services import abandoned_uploads
from inference.engine import runtime
from inference.engine.image import decode, encode_png
from inference.engine.predictor import Predictor
from inference.jobs.signals import analysis_ended
from inference.models import Analysis, Cluster, ModelVersion, State
from tests.engine.making import tiff, tissue
from tests.factories import UserFactory

from .conftest import Api, file, png, problem_of

pytestmark = pytest.mark.django_db(transaction=True)

#: Upstream's answers, by name and type. Nothing may go or change type.
SINGLE = {
    "prediction": str,
    "confidence": float,
    "probabilities": {"benign": float, "malignant": float},
    "num_patches": int,
    "patch_breakdown": {"benign_patches": int, "malignant_patches": int},
    "processing_time_seconds": float,
}
AGGREGATE = {"prediction": str, "confidence": float, "probabilities": {"benign": float, "malignant": float}}
FOLDER = {
    "aggregated_diagnosis": AGGREGATE,
    "num_images": int,
    "image_breakdown": {"benign_images": int, "malignant_images": int},
    "processing_time_seconds": float,
}
INDIVIDUAL = {"filename": str, **AGGREGATE}


def has_shape(value: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(name in value and has_shape(value[name], shape[name]) for name in shape)
    return type(value) is shape


def single(api: Api, seed: int = 0, **extra: Any) -> Any:
    headers = extra.pop("headers", {})
    return api.post("/predict/single", {"file": file(seed=seed), **extra}, headers=headers)


def test_single_answers_in_upstreams_shape_with_the_engines_numbers(
    api: Api, works: None, random_checkpoint: Path, network: ModelVersion
) -> None:
    response = single(api)
    assert response.status_code == 200, response.content
    body = response.json()
    assert has_shape(body, SINGLE)
    loaded = runtime.load(random_checkpoint)
    expected = Predictor(loaded).predict(decode(png(0)).rgb).verdict
    assert body["probabilities"]["malignant"] == expected.probability_malignant
    assert body["confidence"] == expected.confidence == max(body["probabilities"].values())
    assert body["prediction"] == body["verdict"] == expected.verdict
    assert sum(body["patch_breakdown"].values()) == body["num_patches"] == 1
    assert body["model"] == {
        "name": "random",
        "version": "0",
        "sha256": network.sha256,
        "runtime": loaded.name,
        "calibrated": False,
    }
    assert body["cut_points"] == {"low": 0.5, "high": 0.5}
    assert body["cached"] is False
    case = Case.objects.get(pk=body["case"])
    assert (case.title, case.verdict, case.state) == ("field.png", body["verdict"], "done")
    assert api.get(body["patch_map_url"]).content.startswith(b"\x89PNG")


def test_patches_of_glass_are_counted_apart(api: Api, works: None) -> None:
    """Benign and malignant patches are those with tissue; the grid has the others too."""
    pixels = np.full((224, 672, 3), (232, 234, 230), dtype=np.uint8)
    pixels[:, :448] = np.random.default_rng(5).integers(0, 256, (224, 448, 3), dtype=np.uint8)
    body = api.post("/predict/single", {"file": file(content=encode_png(pixels))}).json()
    assert (body["num_patches"], body["tissue_patches"], body["empty_patches"]) == (3, 2, 1)
    assert sum(body["patch_breakdown"].values()) == 2
    patches = api.get(f"/api/v1/analyses/{body['id']}/patches").json()["patches"]
    assert (patches[2]["malignant"], patches[2]["tissue"]) == (None, 0.0)
    asked = api.get(f"/api/v1/analyses/{body['id']}/patches", data={"format": "csv"})
    assert asked.content.decode().splitlines()[3] == "2,448,0,,0.0"


def test_options_reach_the_analysis(api: Api, works: None) -> None:
    big = file(content=png(1, (448, 224)))
    body = api.post("/predict/single", {"file": big, "overlap": "0.5", "magnification": "40X"}).json()
    assert (body["num_patches"], body["overlap"], body["magnification"]) == (3, 0.5, "40X")


@pytest.mark.parametrize("bad", [{"overlap": "0.9"}, {"overlap": "much"}, {"magnification": "10X"}])
def test_bad_options_are_named(api: Api, works: None, bad: dict[str, str]) -> None:
    problem = problem_of(single(api, **bad))
    assert (problem["status"], problem["code"]) == (400, "invalid")
    assert [entry["field"] for entry in problem["fields"]] == list(bad)
    assert not Case.objects.exists()


def test_out_of_domain_is_never_a_model_probability(api: Api, works: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from inference.engine import domain

    reason = "The colours are not those of haematoxylin and eosin."
    monkeypatch.setattr(domain, "check", lambda *_: domain.DomainResult(False, reason, "colour"))
    body = single(api).json()
    assert body["prediction"] == body["verdict"] == "out_of_domain"
    assert (body["confidence"], body["probabilities"]) == (0.0, {"benign": 0.5, "malignant": 0.5})
    assert body["raw_probability"] is None
    assert body["patch_breakdown"] == {"benign_patches": 0, "malignant_patches": 0}
    assert body["num_patches"] == 1
    assert body["warnings"] == [reason]
    assert body["patch_map_url"] is None
    for path in ("map", "patches"):
        assert api.problem("get", f"/api/v1/analyses/{body['id']}/{path}")["code"] == "out_of_domain"
    assert AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED, about=body["id"]).count() == 2, "that is told, too"
    assert has_shape(body, SINGLE)
    folder = api.post("/predict/folder", {"files": [file(seed=1), file("b.png", seed=2)]}).json()
    assert folder["aggregated_diagnosis"]["prediction"] == "out_of_domain"
    assert folder["aggregated_diagnosis"]["confidence"] == 0.0
    assert folder["image_breakdown"]["excluded_images"] == 2


def test_folder_gives_each_image_and_the_mean(api: Api, works: None) -> None:
    response = api.post("/predict/folder", {"files": [file("a.png", 1), file("b.png", 2)]})
    body = response.json()
    assert response.status_code == 200
    assert has_shape(body, FOLDER)
    assert all(has_shape(one, INDIVIDUAL) for one in body["individual_predictions"])
    assert [one["filename"] for one in body["individual_predictions"]] == ["a.png", "b.png"]
    each = [one["probabilities"]["malignant"] for one in body["individual_predictions"]]
    assert body["aggregated_diagnosis"]["probabilities"]["malignant"] == pytest.approx(sum(each) / 2, abs=1e-15)
    assert body["num_images"] == 2 == sum(body["image_breakdown"].values())
    assert body["errors"] == []
    of_case = api.get(f"/api/v1/cases/{body['case']}").json()
    for name in ("review_recommended", "reasons"):
        assert of_case[name] == body[name]
    assert body["review_recommended"] == bool(body["reasons"])


def test_folder_with_good_and_bad_files_names_the_bad_ones(api: Api, works: None) -> None:
    files = [file("good.png", 1), file("text.png", content=b"hello"), file("empty.png", content=b" "[:0])]
    body = api.post("/predict/folder", {"files": files}).json()
    assert body["num_images"] == 1
    assert {(one["filename"], one["code"]) for one in body["errors"]} >= {("text.png", "not_an_image")}
    assert [reason["code"] for reason in body["reasons"]] == ["failed_images"] and body["review_recommended"]
    assert Slide.objects.count() == 1


def test_folder_of_bad_files_is_400_and_leaves_nothing(api: Api, works: None) -> None:
    problem = api.problem(
        "post", "/predict/folder", {"files": [file("a.png", content=b"x"), file("b.png", content=b"y")]}
    )
    assert (problem["status"], problem["code"]) == (400, "invalid_file")
    assert [one["filename"] for one in problem["errors"]] == ["a.png", "b.png"]
    assert not Case.objects.exists()
    assert not Submission.objects.exists()


def test_a_bad_single_file_is_400_with_the_reason(api: Api, works: None) -> None:
    problem = api.problem("post", "/predict/single", {"file": file("notes.png", content=b"text")})
    assert (problem["status"], problem["code"]) == (400, "invalid_file")
    assert "notes.png" in problem["detail"]
    assert not Case.objects.exists()


def test_no_file_at_all_is_400(api: Api, works: None) -> None:
    problem = api.problem("post", "/predict/single", {"wrong": "field"})
    assert (problem["status"], problem["fields"][0]["field"]) == (400, "file")


def test_stream_tells_progress_and_ends_with_the_result(api: Api, works: None) -> None:
    response = api.post("/predict/single/stream", {"file": file()}, headers={"Accept": "text/event-stream"})
    assert response["Content-Type"] == "text/event-stream"
    assert response["X-Accel-Buffering"] == "no"
    events = [json.loads(line[6:]) for line in b"".join(response).decode().split("\n\n") if line.startswith("data: ")]
    assert [event["type"] for event in events] == ["start", "progress", "complete"]
    assert (events[1]["current"], events[1]["total"], events[1]["percentage"]) == (1, 1, 100.0)
    assert events[1]["message"]
    assert has_shape(events[-1]["result"], SINGLE)


def test_stream_refuses_a_bad_file_before_it_begins(api: Api, works: None) -> None:
    problem = api.problem("post", "/predict/single/stream", {"file": file(content=b"text")})
    assert problem["code"] == "invalid_file"


@pytest.mark.parametrize("call", ["single", "folder", "single/stream"])
def test_a_token_revoked_while_it_waits_is_told_no_result(api: Api, works: None, call: str) -> None:
    def revoke(**_: object) -> None:
        ApiToken.objects.all().delete()

    analysis_ended.connect(revoke)
    try:
        response = api.post(f"/predict/{call}", {"files" if call == "folder" else "file": file()})
        body = b"".join(response).decode()
    finally:
        analysis_ended.disconnect(revoke)
    assert Analysis.objects.get().state == State.DONE
    assert '"token_invalid"' in body.replace(" ", "")[-200:] and "probabilities" not in body
    assert call == "single/stream" or response.status_code == 401
    assert not AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED).exists(), "nothing was to be seen"


def test_respond_async_answers_202_and_the_result_waits_at_location(api: Api, queued: Callable[[], int]) -> None:
    response = single(api, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response["Preference-Applied"] == "respond-async"
    assert response["Retry-After"] == "1"
    body = response.json()
    assert (body["state"], body["current"], body["total"], body["ahead"]) == ("queued", 0, 1, 0)
    assert api.get(response["Location"]).status_code == 202
    queued()
    result = api.get(response["Location"])
    assert (result.status_code, result.json()["id"]) == (200, body["id"])
    assert has_shape(result.json(), SINGLE)


def test_folder_async_keeps_the_list_of_bad_files(api: Api, queued: Callable[[], int]) -> None:
    files = [file("good.png", 1), file("bad.png", content=b"x")]
    response = api.post("/predict/folder", {"files": files}, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert [one["filename"] for one in response.json()["errors"]] == ["bad.png"]
    queued()
    body = api.get(response["Location"]).json()
    assert [one["filename"] for one in body["errors"]] == ["bad.png"]
    assert has_shape(body, FOLDER)


def test_when_the_wait_is_over_the_answer_is_202(api: Api, queued: Callable[[], int], settings: Any) -> None:
    settings.API_WAIT_SECONDS = 0.2
    assert single(api).status_code == 202
    assert single(api, seed=1, headers={"Prefer": "wait=0"}).status_code == 202


def test_at_most_half_the_threads_wait(api: Api, charlie: User, queued: Callable[[], int], settings: Any) -> None:
    settings.WEB_THREADS = 4
    with THREADS.hold(charlie.pk), THREADS.hold(UserFactory().pk):
        assert single(api).status_code == 202
        response = api.post("/predict/single/stream", {"file": file(seed=1)})
        assert (response.status_code, response["Content-Type"]) == (202, "application/json")


def test_a_stream_that_is_never_read_gives_its_slot_back(
    api: Api, alice: User, queued: Callable[[], int], settings: Any
) -> None:
    settings.WEB_THREADS = 4
    response = api.post("/predict/single/stream", {"file": file()})
    with pytest.raises(CapacityExceeded), THREADS.hold(alice.pk, optional=True):
        pass
    response.close()
    with THREADS.hold(alice.pk, optional=True):
        pass


def test_the_same_bytes_are_answered_from_the_record(api: Api, works: None, stranger: Api) -> None:
    first = single(api).json()
    again = single(api).json()
    assert (again["id"], again["cached"]) == (first["id"], True)
    assert Case.objects.count() == 1
    assert single(api, overlap="0.25").json()["cached"] is False
    assert single(stranger).json()["id"] != first["id"]


def test_another_runtime_or_model_is_not_answered_from_the_record(api: Api, works: None, network: ModelVersion) -> None:
    single(api)
    Analysis.objects.update(runtime="other")
    fresh = file(seed=9)
    api.post("/predict/single", {"file": fresh})
    assert single(api).json()["cached"] is False


def test_the_same_folder_is_answered_from_the_record(api: Api, works: None) -> None:
    def send(*names: str) -> Any:
        return api.post("/predict/folder", {"files": [file(name, i) for i, name in enumerate(names)]}).json()

    first = send("a.png", "b.png")
    assert (send("a.png", "b.png")["id"], Case.objects.count()) == (first["id"], 1)
    assert send("a.png", "b.png")["cached"] is True
    assert send("a.png", "c.png")["cached"] is False


def test_idempotency_key_finds_the_same_analysis(api: Api, queued: Callable[[], int]) -> None:
    headers = {"Idempotency-Key": "order-17", "Prefer": "respond-async"}
    once, again = single(api, headers=headers), single(api, headers=headers | {"Prefer": "Respond-Async"})
    assert "Idempotent-Replayed" not in once and again["Idempotent-Replayed"] == "true"
    assert again["Preference-Applied"] == "respond-async"
    first, second = once.json(), again.json()
    assert first["id"] == second["id"]
    assert Analysis.objects.count() == 1
    queued()
    third = single(api, headers=headers)
    assert (third.status_code, third.json()["id"]) == (200, first["id"])
    assert third["Idempotent-Replayed"] == "true"


def test_a_replayed_call_whose_images_are_gone_says_so(api: Api, works: None) -> None:
    headers = {"Idempotency-Key": "order-22"}

    def send() -> Any:
        return api.post("/predict/folder", {"files": [file("a.png"), file("b.png", 1)]}, headers=headers)

    first = send().json()
    for slide in Slide.objects.filter(case=first["case"]):
        services.remove_slide(slide, None)
    problem = problem_of(send())
    assert (problem["status"], problem["code"]) == (409, "changed")


def test_a_case_deleted_in_the_midst_of_its_call_is_said_to_be(
    api: Api, alice: User, works: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = Submission.complete

    def and_then_deleted(self: Submission, *args: Any) -> None:
        complete(self, *args)
        assert self.case
        services.remove_case(self.case, alice)

    monkeypatch.setattr(Submission, "complete", and_then_deleted)
    problem = api.problem("post", "/predict/single", {"file": file()})
    assert (problem["status"], problem["code"]) == (409, "changed")


def test_idempotency_key_with_other_content_is_422(api: Api, works: None, stranger: Api) -> None:
    headers = {"Idempotency-Key": "order-18"}
    single(api, headers=headers)
    problem = problem_of(single(api, seed=5, headers=headers))
    assert (problem["status"], problem["code"]) == (422, "idempotency_mismatch")
    assert single(stranger, seed=5, headers=headers).status_code == 200


def test_idempotency_key_of_a_call_still_being_received_is_409(api: Api, works: None, alice: User) -> None:
    headers = {"Idempotency-Key": "order-19"}
    single(api, headers=headers)
    Submission.objects.update(case=None)
    problem = problem_of(single(api, headers=headers))
    assert (problem["status"], problem["code"]) == (409, "conflict")


@pytest.mark.parametrize("who", ["the same call again", "a worker"])
def test_a_call_that_was_cut_off_leaves_nothing_behind(who: str, api: Api, works: None, alice: User) -> None:
    """Its process died in the middle: nobody was told of the images that it had stored."""
    headers = {"Idempotency-Key": "order-21"}
    first = single(api, headers=headers).json()
    Submission.objects.update(receiving_until=timezone.now() + timedelta(minutes=1))
    assert abandoned_uploads.delete_abandoned() == 0
    assert problem_of(single(api, headers=headers))["code"] == "conflict"
    assert single(api).json()["cached"] is False, "nor is anything answered from it"
    Case.objects.exclude(pk=first["case"]).delete()
    Submission.objects.update(receiving_until=timezone.now() - timedelta(minutes=1))
    if who == "a worker":
        assert abandoned_uploads.delete_abandoned() == 1
        assert not Case.objects.exists() and not Submission.objects.exists()
    again = single(api, headers=headers)
    assert again.status_code == 200 and again.json()["case"] != first["case"]
    assert Case.objects.count() == 1


def test_each_image_of_a_call_puts_off_its_end(api: Api, works: None, monkeypatch: pytest.MonkeyPatch) -> None:
    until = []
    renew = Submission.renew

    def seen(submission: Submission) -> None:
        renew(submission)
        until.append(Submission.objects.get(pk=submission.pk).receiving_until)

    monkeypatch.setattr(Submission, "renew", seen)
    files = [file(f"{seed}.png", seed) for seed in range(3)]
    assert api.post("/predict/folder", {"files": files}).status_code == 200
    assert len(until) == 3 and until == sorted(until)
    assert Submission.objects.get().receiving_until is None


@pytest.mark.parametrize("stored", [0, 1, 2, 3])
def test_a_call_that_was_given_up_while_it_lives_leaves_nothing(
    stored: int, api: Api, works: None, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine slept, say: a worker has claimed what it stored, and removes it in this very moment."""
    names = []
    keep = Slide.save

    def give_up() -> None:
        submission = Submission.objects.get()
        submission.receiving_until = timezone.now() - timedelta(seconds=1)
        submission.save()
        assert submission.give_up()

    def seen(slide: Slide, *args: Any, **kwargs: Any) -> None:
        keep(slide, *args, **kwargs)
        names.append(slide.pk)
        if len(names) == stored:
            give_up()

    monkeypatch.setattr(Slide, "save", seen)
    if not stored:
        made = services.add_slides
        monkeypatch.setattr(services, "add_slides", lambda *args: (give_up(), made(*args))[1])
    problem = problem_of(api.post("/predict/folder", {"files": [file(f"{seed}.png", seed) for seed in range(3)]}))
    assert (problem["status"], problem["code"]) == (409, "conflict")
    assert len(names) == stored
    assert not Case.objects.exists() and not Submission.objects.exists()


def test_a_call_that_ended_in_the_last_moment_is_not_given_up(api: Api, works: None) -> None:
    single(api)
    late = Submission.objects.get()
    late.receiving_until = timezone.now() - timedelta(seconds=1)
    assert not late.give_up()
    assert Submission.objects.get().is_received


def test_nobody_adds_to_what_is_still_being_received(api: Api, works: None, alice: User, media: Path) -> None:
    single(api)
    case = Case.objects.get()
    Submission.objects.update(receiving_until=timezone.now() + timedelta(minutes=1))
    with pytest.raises(CapacityExceeded):
        services.add_slides(case, [file(seed=3)])
    with pytest.raises(CapacityExceeded):
        services.sign_review(case, alice, "benign")
    assert api.get(f"/api/v1/cases/{case.pk}/report").status_code == 429
    assert api.get(f"/api/v1/cases/{case.pk}/result").status_code == 202, "more may come"


def test_a_refused_upload_does_not_use_up_its_key(api: Api, works: None) -> None:
    headers = {"Idempotency-Key": "order-20"}
    api.post("/predict/single", {"file": file(content=b"text")}, headers=headers)
    assert single(api, headers=headers).status_code == 200


def test_without_a_worker_it_is_503_and_says_so(api: Api, network: ModelVersion) -> None:
    response = single(api)
    assert problem_of(response)["code"] == "no_worker"
    assert response["Retry-After"]
    assert not Case.objects.exists()


def test_without_a_model_it_is_503_and_says_so(api: Api, alive: Cluster) -> None:
    ModelVersion.objects.update(is_active=False)
    assert problem_of(single(api))["code"] == "no_model"
    assert not Case.objects.exists()


def test_a_damaged_model_is_503_and_says_so(api: Api, works: None, settings: Any, tmp_path: Path) -> None:
    from inference.jobs import worker

    worker._predictors.clear()
    settings.MODEL_DIR = tmp_path
    response = single(api)
    assert problem_of(response)["code"] == "model_unusable"
    assert response["Retry-After"]


def test_a_failed_analysis_is_a_problem_with_its_reason(api: Api, queued: Callable[[], int]) -> None:
    location = single(api, headers={"Prefer": "respond-async"})["Location"]
    Analysis.objects.update(state=State.FAILED, error_code="interrupted", error="The worker stopped 3 times.")
    problem = problem_of(api.get(location))
    assert (problem["status"], problem["code"]) == (500, "analysis_failed")
    assert problem["detail"] == "The worker stopped 3 times."


def test_too_many_files_are_413_with_the_limit(api: Api, works: None, settings: Any) -> None:
    settings.UPLOAD_MAX_FILES = 2
    files = [file(f"{i}.png", i) for i in range(3)]
    problem = api.problem("post", "/predict/folder", {"files": files})
    assert (problem["status"], problem["limit"], problem["unit"]) == (413, 2, "files")
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    problem = api.problem("post", "/predict/folder", {"files": [file(f"{i}.png", i) for i in range(3)]})
    assert (problem["status"], problem["code"]) == (413, "too_large")


def test_too_many_bytes_are_413_with_the_limit(api: Api, works: None, settings: Any) -> None:
    settings.UPLOAD_MAX_BYTES = 1000
    problem = problem_of(single(api))
    assert (problem["status"], problem["limit"], problem["unit"]) == (413, 1000, "bytes")
    settings.UPLOAD_MAX_REQUEST_BYTES = 2000
    problem = problem_of(single(api))
    assert (problem["status"], problem["limit"]) == (413, 2000)


def test_two_files_of_one_name_are_both_read(api: Api, works: None) -> None:
    body = api.post("/predict/folder", {"files": [file("a.png", 1), file("a.png", 2)]}).json()
    assert body["num_images"] == 2


def test_a_folder_that_two_models_judged_says_so(api: Api, works: None) -> None:
    answer = api.post("/predict/folder", {"files": [file("a.png", seed=1), file("b.png", seed=2)]}).json()
    newer = ModelVersion.objects.create(name="newer", version="2", file="n.safetensors", sha256="9" * 64, metadata={})
    Analysis.objects.filter(slide__original_name="b.png").update(model_version=newer)
    again = api.get(f"/api/v1/cases/{answer['case']}/result").json()
    assert text.MIXED in again["warnings"]
    assert again["model"]["name"] == "newer", "whose cut points judge the case"


def test_the_same_bytes_under_another_name_have_a_case_of_their_own(api: Api, works: None) -> None:
    first = single(api).json()
    other = api.post("/predict/single", {"file": file("other.png")}).json()
    assert (other["filename"], other["cached"]) == ("other.png", False)
    assert other["case"] != first["case"] and other["report_url"] != first["report_url"]
    assert other["probabilities"] == first["probabilities"]


def test_warnings_about_a_file_stand_beside_its_result(api: Api, works: None, client: Client, alice: User) -> None:
    pages = tiff(tissue(3, 256, 240), tissue(5, 256, 240))
    body = api.post("/predict/single", {"file": file("pages.tif", content=pages)}).json()
    (said,) = [text for text in body["warnings"] if "page 1 of 2" in text]
    slide = api.get(f"/api/v1/slides/{body['slide']}").json()
    assert (slide["format"], slide["width"], slide["height"], slide["warnings"]) == ("TIFF", 256, 240, [said])
    client.force_login(alice)
    for address in (reverse("cases:slide", args=[body["slide"]]), reverse("cases:export", args=[body["case"], "csv"])):
        assert said.split(".")[0] in client.get(address).content.decode(), address


def test_what_is_not_read_is_refused_with_advice(api: Api, works: None) -> None:
    problem = api.problem("post", "/predict/single", {"file": file("old.gif", content=b"GIF89a" + bytes(50))})
    assert problem["errors"][0]["code"] == "unsupported" and "Export it again" in problem["detail"]


def test_all_pages_become_slides_where_that_is_asked_for(api: Api, works: None, client: Client, alice: User) -> None:
    pages = tiff(tissue(3, 256, 240), tissue(5, 256, 240), (tissue(3, 64, 60), {"subfiletype": 1}))
    sent = [file("pages.tif", content=pages), file("plain.png")]
    body = api.post("/predict/folder", {"files": sent, "all_pages": "true"}).json()
    names = ["pages.tif (page 1)", "pages.tif (page 2)", "plain.png"]
    assert [one["filename"] for one in body["individual_predictions"]] == names
    assert not [text for text in body["warnings"] if "page" in text or "uplicate" in text]
    added = api.post(
        f"/api/v1/cases/{body['case']}/slides", {"files": [file("more.tif", content=pages)], "all_pages": "true"}
    )
    assert [one["filename"] for one in added.json()["slides"]] == ["more.tif (page 1)", "more.tif (page 2)"]
    client.force_login(alice)
    new = {"title": "Pages", "magnification": "unknown", "images": [file("p.tif", content=pages)], "all_pages": "on"}
    client.post(reverse("cases:new"), new)
    assert Slide.objects.filter(case__title="Pages").count() == 2


def test_no_page_goes_beyond_what_a_case_may_have(api: Api, works: None, settings: Any) -> None:
    settings.CASE_MAX_IMAGES = 2
    pages = tiff(*(tissue(number, 64, 60) for number in (3, 5, 7, 8)))
    body = api.post("/predict/folder", {"files": [file("pages.tif", content=pages)], "all_pages": "true"}).json()
    assert len(body["individual_predictions"]) == 2 and [one["code"] for one in body["errors"]] == ["case_full"]
