"""Cases, slides, analyses, readings and models, for their owner and for others."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cases import services
from cases.models import AuditEvent, Case, Slide, Tag, User
from cases.reporting import text
from inference.models import Analysis, Cluster, ModelVersion, State
from tests.factories import CaseFactory, upload

from .conftest import Api, file, png, problem_of

pytestmark = pytest.mark.django_db(transaction=True)


def post(api: Api, path: str, body: Any = None) -> Any:
    return api.post(f"/api/v1/{path}", body or {}, content_type="application/json")


def new_case(api: Api, **fields: Any) -> Any:
    response = post(api, "cases", {"title": "Core biopsy", **fields})
    assert response.status_code == 201, response.content
    return response.json()


def add(api: Api, case: str, *seeds: int) -> Any:
    files = [file(f"{seed}.png", seed) for seed in seeds]
    return api.post(f"/api/v1/cases/{case}/slides", {"files": files})


def test_a_case_from_opening_to_result(api: Api, queued: Callable[[], int]) -> None:
    case = new_case(api, patient="P-17", notes="left", magnification="200X", tags=["pilot"], overlap=0.25)
    assert (case["state"], case["verdict"], case["tags"], case["overlap"]) == ("empty", None, ["pilot"], 0.25)
    assert problem_of(api.get(case["result_url"]))["code"] == "not_finished"
    added = add(api, case["id"], 1, 2)
    assert added.status_code == 201
    assert [slide["filename"] for slide in added.json()["slides"]] == ["1.png", "2.png"]
    assert added.json()["slides"][0]["magnification"] == "200X"
    assert api.get(case["result_url"]).status_code == 202
    queued()
    shown = api.get(f"/api/v1/cases/{case['id']}").json()
    result = api.get(case["result_url"]).json()
    assert (shown["state"], shown["slide_count"], shown["verdict"]) == ("done", 2, result["verdict"])
    assert shown["probabilities"] == result["aggregated_diagnosis"]["probabilities"]
    assert result["individual_predictions"][0]["overlap"] == 0.25


def test_bad_slides_are_named_and_good_ones_go_on(api: Api, queued: Callable[[], int]) -> None:
    case = new_case(api)
    files = [file("good.png", 1), file("bad.png", content=b"x")]
    body = api.post(f"/api/v1/cases/{case['id']}/slides", {"files": files}).json()
    assert ([s["filename"] for s in body["slides"]], [e["filename"] for e in body["errors"]]) == (
        ["good.png"],
        ["bad.png"],
    )
    response = api.post(f"/api/v1/cases/{case['id']}/slides", {"files": [file("bad.png", content=b"x")]})
    assert problem_of(response)["errors"][0]["filename"] == "bad.png"


def test_changing_a_case_keeps_what_is_not_mentioned(api: Api) -> None:
    case = new_case(api, patient="P-1", tags=["a"])
    response = api.patch(f"/api/v1/cases/{case['id']}", {"title": "Other"}, content_type="application/json")
    assert response.status_code == 200
    body = response.json()
    assert (body["title"], body["patient"], body["tags"]) == ("Other", "P-1", ["a"])
    kinds = list(Case.objects.get().events.values_list("kind", flat=True))
    assert kinds == [AuditEvent.Kind.EDITED, AuditEvent.Kind.CREATED]
    response = api.patch(f"/api/v1/cases/{case['id']}", {"tags": ["a,b"]}, content_type="application/json")
    assert response.status_code == 400, "the page would make two of it"


@pytest.mark.parametrize(
    "tags", [["a" * 100_000 + ","], ["\x01" * 100_000 + ","], ["a" * 1_000 + ","] * 1_000, [[]] * 500_000]
)
def test_a_refused_tag_holds_up_nobody(api: Api, tags: list[str]) -> None:
    before = time.process_time()
    assert post(api, "cases", {"title": "x", "tags": tags}).status_code == 400
    assert time.process_time() - before < 5, "with a pattern that is tried in many ways: the better part of a minute"


def test_a_tag_is_found_however_it_is_spelled(api: Api) -> None:
    new_case(api, tags=["Übung"])
    assert [api.get(f"/api/v1/cases?tag={tag}").json()["count"] for tag in ("Übung", "übung", "ÜBUNG", "üb")] == [
        1, 1, 1, 0,
    ]  # fmt: skip
    # As an earlier version kept them.
    case = Case.objects.get()
    case.tags.add(Tag.objects.create(owner=case.owner, name="Übung"))
    assert api.get("/api/v1/cases?tag=Übung").json()["count"] == 1


def test_counts_and_verdicts_can_not_be_written(api: Api) -> None:
    case = new_case(api, verdict="malignant", slide_count=7, owner="charlie")
    assert (case["verdict"], case["slide_count"], case["owner"]) == (None, 0, "alice")


def test_deleting_a_case_takes_its_files_along(api: Api, queued: Callable[[], int], media: Any) -> None:
    case = new_case(api)
    add(api, case["id"], 1)
    assert [path for path in media.rglob("*") if path.is_file()]
    assert api.delete(f"/api/v1/cases/{case['id']}").status_code == 204
    assert not [path for path in media.rglob("*") if path.is_file()]
    assert not Analysis.objects.exists()


def test_lists_are_filtered_searched_ordered_and_paged(api: Api, alice: User) -> None:
    CaseFactory(owner=alice, title="Apple", patient="P-1", verdict="benign", probability=0.1, slide_count=1)
    CaseFactory(owner=alice, title="Banana", patient="P-2", verdict="malignant", probability=0.9, slide_count=1)
    CaseFactory(owner=alice, title="Cherry", magnification="40X")

    def titles(**query: Any) -> list[str]:
        return [case["title"] for case in api.get("/api/v1/cases", query).json()["results"]]

    assert titles() == ["Cherry", "Banana", "Apple"]
    assert titles(verdict="malignant") == ["Banana"]
    assert titles(state="empty") == ["Cherry"]
    assert titles(state="done", ordering="title") == ["Apple", "Banana"]
    assert titles(ordering="-probability", state="done") == ["Banana", "Apple"]
    assert titles(q="p-2 ban") == ["Banana"]
    assert titles(patient="P-1") == ["Apple"]
    assert titles(magnification="40X") == ["Cherry"]
    assert titles(created_before="2001-01-01T00:00:00Z") == []
    page = api.get("/api/v1/cases", {"page_size": 2}).json()
    assert (page["count"], len(page["results"])) == (3, 2)
    assert len(api.get(page["next"]).json()["results"]) == 1
    for bad in (
        {"verdict": "x"},
        {"ordering": "x"},
        {"ordering": ""},
        {"ordering": "title,"},
        {"created_after": "x"},
        {"state": "x"},
        {"page_size": "x"},
        {"page_size": ""},
        {"page": "x"},
        {"page": "0"},
        {"page": ""},
        {"page": "9" * 3000},
    ):
        assert problem_of(api.get("/api/v1/cases", bad))["code"] == "invalid"
    assert problem_of(api.get("/api/v1/cases", {"page": 99}))["code"] == "not_found"


def test_longer_lists_take_no_more_queries(api: Api, queued: Callable[[], int]) -> None:
    case = new_case(api, tags=["x"])["id"]

    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(f"/api/v1/{path}").json()["results"]
        return len(queries)

    def counts() -> list[int]:
        return [count(path) for path in ("cases", f"cases/{case}/slides", "analyses")]

    add(api, case, 1)
    queued()
    counts()  # whatever is asked once only
    few = counts()
    add(api, case, 2, 3)
    for i in range(4):
        new_case(api, title=f"{i}", tags=["y", "z"])
    queued()
    assert counts() == few
    assert max(few) < 15


def test_a_stranger_finds_nothing(api: Api, stranger: Api, queued: Callable[[], int]) -> None:
    case = new_case(api)["id"]
    slide = add(api, case, 1).json()["slides"][0]
    queued()
    analysis = slide["analysis"]
    for path in (
        f"cases/{case}", f"cases/{case}/result", f"cases/{case}/slides", f"cases/{case}/reviews",
        f"slides/{slide['id']}", f"slides/{slide['id']}/image", f"slides/{slide['id']}/analyses",
        f"analyses/{analysis}", f"analyses/{analysis}/result", f"analyses/{analysis}/patches",
        f"analyses/{analysis}/map",
    ):  # fmt: skip
        response = api.get(f"/api/v1/{path}")
        assert response.status_code == 200, path
        response.close()
        assert problem_of(stranger.get(f"/api/v1/{path}"))["status"] == 404, path
    for path in (
        f"cases/{case}/slides",
        f"cases/{case}/analyses",
        f"cases/{case}/reviews",
        f"slides/{slide['id']}/analyses",
    ):
        assert problem_of(post(stranger, path))["status"] == 404, path
    for path in (f"cases/{case}", f"slides/{slide['id']}"):
        assert problem_of(stranger.delete(f"/api/v1/{path}"))["status"] == 404
    for path in ("cases", "analyses"):
        assert stranger.get(f"/api/v1/{path}").json()["count"] == 0


def test_a_reviewer_reads_all_and_changes_nothing(api: Api, reviewer: User, queued: Callable[[], int]) -> None:
    case = new_case(api)["id"]
    slide = add(api, case, 1).json()["slides"][0]["id"]
    other = Api(reviewer)
    assert other.get(f"/api/v1/cases/{case}").status_code == 200
    assert Case.objects.get().events.filter(kind=AuditEvent.Kind.VIEWED, actor__user=reviewer).exists()
    patch = other.patch(f"/api/v1/cases/{case}", {"title": "x"}, content_type="application/json")
    for response in (
        patch,
        other.delete(f"/api/v1/cases/{case}"),
        other.delete(f"/api/v1/slides/{slide}"),
        add(other, case, 2),
        post(other, f"cases/{case}/analyses"),
        post(other, f"slides/{slide}/analyses"),
    ):
        assert problem_of(response)["status"] == 404
    assert post(other, f"cases/{case}/reviews", {"reading": "benign"}).status_code == 201


def test_patches_as_json_and_csv(api: Api, works: None) -> None:
    body = api.post("/predict/single", {"file": file(content=png(3, (448, 224)))}).json()
    table = api.get(f"/api/v1/analyses/{body['id']}/patches").json()
    assert (table["width"], table["height"], table["patch_size"]) == (448, 224, 224)
    assert [(p["index"], p["x"], p["y"]) for p in table["patches"]] == [(0, 0, 0), (1, 224, 0)]
    mean = sum(p["malignant"] * p["tissue"] for p in table["patches"]) / sum(p["tissue"] for p in table["patches"])
    assert mean == pytest.approx(body["raw_probability"], rel=1e-6)
    for ask in ({"data": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}):
        response = api.get(f"/api/v1/analyses/{body['id']}/patches", **ask)
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(response.content.decode())))
        assert [float(row["malignant"]) for row in rows] == [p["malignant"] for p in table["patches"]]


def test_an_unfinished_analysis_has_no_patches_yet(api: Api, queued: Callable[[], int]) -> None:
    analysis = add(api, new_case(api)["id"], 1).json()["slides"][0]["analysis"]
    for path in ("patches", "map"):
        problem = problem_of(api.get(f"/api/v1/analyses/{analysis}/{path}"))
        assert (problem["status"], problem["code"]) == (409, "not_finished")
    assert not AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED).exists(), "nothing was to be seen"
    shown = api.get(f"/api/v1/analyses/{analysis}").json()
    assert (shown["state"], shown["result"], shown["error"]) == ("queued", None, None)
    assert shown["progress"] == {"current": 0, "total": 1, "percentage": 0.0}


def test_a_failed_analysis_tells_its_reason(api: Api, queued: Callable[[], int]) -> None:
    case = new_case(api)["id"]
    analysis = add(api, case, 1).json()["slides"][0]["analysis"]
    Analysis.objects.update(state=State.FAILED, error_code="interrupted", error="The worker stopped 3 times.")
    Case.objects.update(open_count=0, failed_count=1)
    shown = api.get(f"/api/v1/analyses/{analysis}").json()
    assert shown["error"] == {"filename": "1.png", "code": "interrupted", "reason": "The worker stopped 3 times."}
    problem = problem_of(api.get(f"/api/v1/cases/{case}/result"))
    assert (problem["code"], problem["errors"][0]["code"]) == ("analysis_failed", "interrupted")


def test_running_again_with_a_chosen_model_keeps_the_earlier_run(
    api: Api, queued: Callable[[], int], random_checkpoint: Any, network: ModelVersion
) -> None:
    case = new_case(api)["id"]
    slide = add(api, case, 1).json()["slides"][0]
    again = post(api, f"slides/{slide['id']}/analyses", {"overlap": 0.5})
    assert (again.status_code, again.json()["id"]) == (202, slide["analysis"]), "it is open still"
    queued()
    again = post(api, f"slides/{slide['id']}/analyses", {"model_version": str(network.pk), "overlap": 0.5})
    assert again.status_code == 202
    assert again.json()["id"] != slide["analysis"]
    queued()
    result = api.get(again["Location"]).json()
    assert (result["overlap"], result["model"]["sha256"]) == (0.5, network.sha256)
    runs = api.get(f"/api/v1/slides/{slide['id']}/analyses").json()["results"]
    assert [(run["is_current"], run["state"]) for run in runs] == [(True, "done"), (False, "done")]
    bad = post(api, f"slides/{slide['id']}/analyses", {"model_version": "00000000-0000-4000-8000-000000000000"})
    assert problem_of(bad)["status"] == 404
    whole = post(api, f"cases/{case}/analyses")
    assert (whole.status_code, whole.json()["id"]) == (202, case)


def test_removing_a_slide_makes_the_aggregate_anew(api: Api, queued: Callable[[], int]) -> None:
    case = new_case(api)["id"]
    slides = add(api, case, 1, 2).json()["slides"]
    queued()
    assert api.delete(f"/api/v1/slides/{slides[0]['id']}").status_code == 204
    shown = api.get(f"/api/v1/cases/{case}").json()
    assert shown["slide_count"] == 1
    assert shown["probabilities"]["malignant"] == Analysis.objects.get().probability
    assert Slide.objects.count() == 1


def test_readings_are_signed_and_kept(api: Api, alice: User) -> None:
    case = new_case(api)["id"]
    for reading in ("benign", "uncertain"):
        response = post(api, f"cases/{case}/reviews", {"reading": reading, "comment": "c", "verdict": "malignant"})
        assert response.status_code == 201
        assert (response.json()["author"], response.json()["verdict"]) == ("alice", None)
    listed = api.get(f"/api/v1/cases/{case}/reviews").json()["results"]
    assert [review["reading"] for review in listed] == ["uncertain", "benign"]
    assert problem_of(post(api, f"cases/{case}/reviews", {"reading": "sure"}))["code"] == "invalid"


def test_blinded_readings_stay_hidden(api: Api, alice: User, reviewer: User) -> None:
    case = new_case(api)["id"]
    Case.objects.update(is_blinded=True)
    post(api, f"cases/{case}/reviews", {"reading": "benign"})
    other = Api(reviewer)
    assert other.get(f"/api/v1/cases/{case}/reviews").json()["count"] == 0
    post(other, f"cases/{case}/reviews", {"reading": "malignant"})
    assert other.get(f"/api/v1/cases/{case}/reviews").json()["count"] == 2


def test_models_and_me(api: Api, network: ModelVersion, alive: Cluster) -> None:
    (version,) = [version for version in api.get("/api/v1/models").json()["results"] if version["is_active"]]
    assert version["sha256"] == network.sha256
    assert api.get(f"/api/v1/models/{version['id']}").json()["metadata"]["architecture"] == "resnet50"
    me = api.get("/api/v1/me").json()
    assert (me["username"], me["is_reviewer"], me["limits"]["max_files"]) == ("alice", False, 200)


def test_the_index_leads_everywhere(api: Api, network: ModelVersion, alive: Cluster) -> None:
    index = api.get("/api").json()
    for url in (index["health"], index["docs"], index["schema"], *index["resources"].values()):
        assert api.get(url).status_code in (200, 405), url


def test_a_case_that_is_analysed_again_in_parts_says_so(
    api: Api, case: Case, media: Path, model: ModelVersion, settings: Any
) -> None:
    services.add_slides(case, [upload(f"{number}.png") for number in range(3)])

    def done() -> None:
        figures = {"probability": 0.1, "raw_probability": 0.1, "confidence": 0.9, "benign_patches": 12}
        now = timezone.now()
        Analysis.objects.exclude(state=State.DONE).update(
            state=State.DONE, verdict="benign", malignant_patches=0, started_at=now, finished_at=now, **figures
        )
        with transaction.atomic():
            services.refresh(case)

    done()
    settings.MAX_PENDING_PER_USER = 2
    asked = post(api, f"cases/{case.pk}/analyses", {"overlap": 0.5})
    assert asked.status_code == 202
    assert [problem["code"] for problem in asked.json()["errors"]] == ["busy"]
    done()
    result = api.get(f"/api/v1/cases/{case.pk}/result").json()
    assert sorted(image["overlap"] for image in result["individual_predictions"]) == [0.0, 0.5, 0.5]
    assert text.MIXED in result["warnings"]


def test_cases_in_order_of_probability_end_with_those_that_have_none(api: Api, alice: User) -> None:
    for title, verdict, probability in (("a", "out_of_domain", 0.5), ("b", "benign", 0.1), ("c", "malignant", 0.9)):
        Case.objects.create(owner=alice, title=title, verdict=verdict, probability=probability)
    for order, titles in (("probability", "bca"), ("-probability", "cba")):
        found = api.get(f"/api/v1/cases?ordering={order}").json()["results"]
        assert "".join(one["title"] for one in found) == titles
