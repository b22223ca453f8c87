"""One format for errors, on every address of the API, whoever raises them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import OperationalError

from cases.api import errors, results
from cases.api.common import AccountThrottle, AnonymousThrottle, UploadThrottle
from inference.models import Cluster, ModelVersion

from .conftest import Api, file, problem_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/api/v1/nothing", 404, "not_found"),
        ("get", "/api/v1/cases/not-an-id", 404, "not_found"),
        ("get", "/predict", 404, "not_found"),
        ("get", "/predict/single", 405, "method_not_allowed"),
        ("delete", "/api/v1/me", 405, "method_not_allowed"),
        ("put", "/api/v1/cases/00000000-0000-4000-8000-000000000000", 405, "method_not_allowed"),
        ("post", "/health", 405, "method_not_allowed"),
        ("post", "/schema", 405, "method_not_allowed"),
    ],
)
def test_addresses_and_methods_that_do_not_exist(api: Api, method: str, path: str, status: int, code: str) -> None:
    response = getattr(api, method)(path)
    assert (problem_of(response)["code"], response.status_code) == (code, status)
    if status == 405:
        assert response["Allow"]


def test_the_portal_keeps_its_own_error_pages(api: Api) -> None:
    assert "problem" not in api.get("/cases/nothing/").headers["Content-Type"]


def test_a_body_of_another_type_is_415(api: Api) -> None:
    response = api.post("/predict/single", "{}", content_type="application/json")
    assert problem_of(response)["code"] == "unsupported_media_type"
    assert response.status_code == 415


def test_broken_json_is_400(api: Api) -> None:
    response = api.post("/api/v1/cases", "{", content_type="application/json")
    assert problem_of(response)["code"] == "malformed"


def test_values_that_are_refused_are_named(api: Api) -> None:
    response = api.post("/api/v1/cases", {"title": "", "magnification": "7X"}, content_type="application/json")
    problem = problem_of(response)
    assert problem["code"] == "invalid"
    assert {(entry["field"], entry["code"]) for entry in problem["fields"]} == {
        ("title", "blank"),
        ("magnification", "invalid_choice"),
    }


def test_a_refused_host_is_a_problem(api: Api) -> None:
    response = api.get("/api", headers={"Host": "evil.example"})
    assert problem_of(response)["code"] == "malformed"


def test_a_crash_is_500_without_details_and_is_logged(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*args: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(results, "report_url", crash)
    api.post("/api/v1/cases", {"title": "x"}, content_type="application/json")
    with caplog.at_level(logging.ERROR):
        response = api.get("/api/v1/cases")
    assert problem_of(response)["code"] == "error"
    assert b"secret" not in response.content
    assert "ZeroDivisionError" in caplog.text


def test_a_database_that_is_away_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> None:
        raise OperationalError("connection refused at 10.0.0.1")

    monkeypatch.setattr(results, "report_url", away)
    api.post("/api/v1/cases", {"title": "x"}, content_type="application/json")
    response = api.get("/api/v1/cases")
    assert problem_of(response)["code"] == "database_unavailable"
    assert b"10.0.0.1" not in response.content
    assert response["Retry-After"]


def test_chunked_uploads_are_411(api: Api) -> None:
    response = api.generic("POST", "/predict/single", headers={"Transfer-Encoding": "chunked"})
    assert problem_of(response)["code"] == "length_required"


@pytest.mark.parametrize(("throttle", "path"), [(AccountThrottle, "/api/v1/me"), (UploadThrottle, "/predict/single")])
def test_accounts_are_throttled(api: Api, monkeypatch: pytest.MonkeyPatch, throttle: type, path: str) -> None:
    monkeypatch.setattr(throttle, "rate", "2/min", raising=False)
    call = api.get if throttle is AccountThrottle else api.post
    statuses = [call(path).status_code for _ in range(3)]
    assert statuses[0] == statuses[1] != 429
    response = call(path)
    assert problem_of(response)["code"] == "throttled"
    assert 0 < int(response["Retry-After"]) <= 60


def test_anonymous_calls_are_throttled(anonymous: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnonymousThrottle, "rate", "2/min", raising=False)
    answers = [anonymous.get("/api") for _ in range(3)]
    assert answers[0].status_code == 200
    assert problem_of(answers[2])["code"] == "throttled"


def test_every_code_has_a_title() -> None:
    for code, (status, meaning) in errors.CODES.items():
        assert status in errors._TITLES, code
        assert meaning


def test_health_names_each_check(anonymous: Api, network: ModelVersion) -> None:
    response = anonymous.get("/health")
    body = response.json()
    assert response.status_code == 503
    assert body["status"] == "unhealthy"
    assert body["model_loaded"] is False
    assert body["checks"] == {"database": True, "worker": False, "model": True}
    assert [problem["code"] for problem in body["problems"]] == ["no_worker"]
    Cluster.objects.create(host="here", pid=1)
    response = anonymous.get("/health")
    assert (response.status_code, response.json()["status"], response.json()["model_loaded"]) == (200, "healthy", True)
    assert response.json()["problems"] == []
    assert response.headers["Cache-Control"].startswith("max-age=0")
    assert response.json()["warnings"] == []
    Cluster.objects.update(fell_back=True)
    response = anonymous.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "healthy")
    assert [warning["code"] for warning in response.json()["warnings"]] == ["fp32_fallback"]


def test_health_notices_a_changed_model_file(
    anonymous: Api, network: ModelVersion, alive: Cluster, settings: Any, tmp_path: Any
) -> None:
    assert anonymous.get("/health").status_code == 200
    settings.MODEL_DIR = tmp_path
    (tmp_path / network.file).write_bytes(b"something else")
    body = anonymous.get("/health").json()
    assert body["checks"]["model"] is False
    assert [problem["code"] for problem in body["problems"]] == ["model_unusable"]


def test_health_without_a_database_is_503(anonymous: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from inference.jobs import queue

    def away() -> bool:
        raise OperationalError("connection refused at 10.0.0.1")

    monkeypatch.setattr(queue, "worker_alive", away)
    response = anonymous.get("/health")
    assert response.status_code == 503
    assert response.json()["checks"]["database"] is False
    assert [problem["code"] for problem in response.json()["problems"]] == ["database_unavailable"]
    assert b"10.0.0.1" not in response.content


def test_live_needs_no_database(client: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert client.get("/health/live").json() == {"status": "alive"}


def test_cors_is_off_unless_configured(api: Api) -> None:
    response = api.get("/api", headers={"Origin": "https://elsewhere.example"})
    assert "Access-Control-Allow-Origin" not in response


def test_a_session_opens_the_api(alice: Any, as_user: Any, network: ModelVersion) -> None:
    response = as_user(alice).post("/predict/single", {"file": file()})
    assert problem_of(response)["code"] == "no_worker"
