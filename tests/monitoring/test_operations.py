"""Logs without secrets, metrics for Prometheus, and clear errors when a service is unavailable."""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core import mail
from django.core.checks import run_checks
from django.db import DatabaseError, DataError, IntegrityError, OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.accounts import tokens
from cases.models import Case, Slide, User
from cases.monitoring.metrics import population_stability
from histopath.logging import configuration
from inference.models import Analysis, ModelVersion, State, Verdict
from tests.factories import PASSWORD, add_slide

As = Callable[[User], Client]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """The log lines as JSON, as in production."""
    made = configuration("json", "INFO")["formatters"]["json"]
    from pythonjsonlogger.json import JsonFormatter

    from histopath.logging import Context

    formatter = JsonFormatter(made["format"], rename_fields=made["rename_fields"])
    caplog.handler.addFilter(Context())
    caplog.set_level(logging.DEBUG)
    logging.getLogger("histopath.request").setLevel(logging.INFO)
    return lambda: [json.loads(formatter.format(record)) for record in caplog.records]


def test_each_request_is_a_json_line(as_user: As, alice: User, case: Case, lines: Any) -> None:
    answer = as_user(alice).get(reverse("cases:case", args=[case.pk]), headers={"X-Request-ID": "from-the-proxy-1"})
    assert answer["X-Request-ID"] == "from-the-proxy-1"
    (line,) = [line for line in lines() if line["logger"] == "histopath.request"]
    assert (line["method"], line["status"], line["user_id"]) == ("GET", 200, alice.pk)
    assert line["request_id"] == "from-the-proxy-1" and line["milliseconds"] > 0


def test_a_request_id_from_outside_cannot_forge_lines(client: Client, db: None) -> None:
    answer = client.get(reverse("health-live"), headers={"X-Request-ID": 'x" , "level": "none'})
    assert '"' not in answer["X-Request-ID"] and len(answer["X-Request-ID"]) == 32


def test_no_secret_is_logged(client: Client, alice: User, case: Case, lines: Any) -> None:
    _, plain = tokens.create(alice, "laboratory")
    client.post(reverse("account_login"), {"login": "alice", "password": "a wrong secret"})
    client.post(reverse("account_login"), {"login": "alice", "password": PASSWORD})
    client.get(reverse("cases:history"), {"q": "Erika Mustermann"})
    Client().get(reverse("api:me"), headers={"Authorization": f"Token {plain}"})
    Client().get(reverse("api:me"), headers={"Authorization": "Token not-a-real-one"})
    written = json.dumps(lines())
    secrets = (PASSWORD, "a wrong secret", plain, "not-a-real-one", "Erika", client.cookies["sessionid"].value)
    for secret in secrets:
        assert secret not in written


def test_the_key_of_a_mailed_link_is_not_logged(client: Client, alice: User, lines: Any) -> None:
    client.post(reverse("account_reset_password"), {"email": alice.email})
    (path,) = re.findall(r"/accounts/password/reset/key/\S+", mail.outbox[0].body)
    client.get(path)
    key = path.strip("/").rpartition("/")[2]
    asked = [line for line in lines() if line["logger"] != "django.db.backends"]
    assert any("/accounts/password/reset/key/" in line["message"] for line in asked)
    assert key not in json.dumps(asked, ensure_ascii=False)


def test_metrics_need_their_token(client: Client, db: None, settings: Any) -> None:
    assert client.get("/metrics").status_code == 404
    settings.METRICS_TOKEN = "prometheus"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
        assert client.get("/metrics", headers=headers).status_code == 404


def figures(client: Client, settings: Any) -> dict[str, float]:
    settings.METRICS_TOKEN = "prometheus"
    answer = client.get("/metrics", headers={"Authorization": "Bearer prometheus"})
    assert answer.status_code == 200
    lines = [line for line in answer.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_metrics_show_queue_results_and_requests(
    client: Client, slide: Slide, model: ModelVersion, settings: Any
) -> None:
    done = [add_slide(slide.case, f"{n}.png") for n in range(4)]
    for other, verdict in zip(done, ("benign", "malignant", "malignant", "out_of_domain"), strict=True):
        Analysis.objects.filter(slide=other).update(
            state=State.DONE, verdict=verdict, probability=0.5, seconds=6, benign_patches=4, malignant_patches=8,
            finished_at=timezone.now(),
        )  # fmt: skip
    Analysis.objects.filter(slide=slide).update(queued_at=timezone.now() - timedelta(seconds=90))
    client.get(reverse("cases:help"))
    found = figures(client, settings)
    assert found['histopath_analyses_open{state="queued"}'] == 1
    assert 90 <= found["histopath_queue_age_seconds"] < 100
    assert found['histopath_verdicts_day{verdict="malignant"}'] == 2
    assert found["histopath_out_of_domain_share_day"] == 0.25
    assert found["histopath_slide_seconds_day"] == 6
    assert found["histopath_patch_seconds_day"] == 0.5
    assert found['histopath_requests_total{method="GET",status="200",view="cases:help"}'] >= 1
    assert not [name for name in found if str(slide.pk) in name]
    assert not [name for name in found if name.startswith("histopath_probability_drift")], "too few for a statement"


def test_drift_is_measured_against_the_weeks_before(
    client: Client, slide: Slide, model: ModelVersion, settings: Any
) -> None:
    now = timezone.now()
    Analysis.objects.bulk_create(
        Analysis(
            slide=slide, model_version=model, is_current=False, state=State.DONE, verdict=Verdict.BENIGN,
            probability=probability, finished_at=now - timedelta(days=age),
        )
        for age, probability in [(1, 0.9)] * 60 + [(30, 0.1)] * 60
    )  # fmt: skip
    drift = [value for name, value in figures(client, settings).items() if "drift" in name]
    assert len(drift) == 1 and drift[0] > 0.25


def test_the_stability_index_matches_a_hand_calculation() -> None:
    """All values are in two bins: 60.5 of 65 versus 0.5 of 65, and vice versa."""
    a, b, rest = 60.5 / 65, 0.5 / 65, 0.5 / 65
    expected = (b - a) * np.log(b / a) + (a - b) * np.log(a / b) + 8 * (rest - rest)
    assert population_stability(np.full(60, 0.1), np.full(60, 0.9)) == pytest.approx(expected)
    assert population_stability(np.full(60, 0.1), np.full(60, 0.1)) == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("server closed the connection"), 503),
        (OSError(errno.ENOSPC, "No space left on device"), 503),
        (OSError(errno.EROFS, "Read-only file system"), 503),
        # The database is available, but the query fails.
        (DataError("the value 4711"), 400),
        (IntegrityError("its case is gone"), 409),
        (DatabaseError("Save with update_fields did not affect any rows."), 409),
        (OSError(errno.ENOENT, "No such file"), 500),
        (RuntimeError("a mistake"), 500),
    ],
)
def test_unavailable_services_are_reported(
    error: Exception, status: int, as_user: As, alice: User, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise error

    client = as_user(alice)
    client.raise_request_exception = False
    monkeypatch.setattr("cases.web.views.case.get_case", broken)
    answer = client.get(reverse("cases:case", args=[case.pk]))
    assert answer.status_code == status
    assert ("Retry-After" in answer) == (status == 503)
    assert str(error) not in answer.content.decode()


def test_system_checks_report_configuration_errors(settings: Any, tmp_path: Path) -> None:
    assert {found.id for found in run_checks()} & {"histopath.E001", "histopath.E003", "histopath.W001"} == set()
    settings.SCRIPTS = [("vendor/viewer", tmp_path / "absent")]
    settings.MODEL_DIR = tmp_path
    settings.MEDIA_ROOT = Path(settings.STATIC_ROOT) / "media"
    found = {one.id: one for one in run_checks()}
    assert {"histopath.E001", "histopath.E003", "histopath.W001"} <= found.keys()
    assert "absent" in found["histopath.E003"].msg
    assert "npm ci" in str(found["histopath.E003"].hint)


def test_a_probe_by_ip_address_is_answered(client: Client, settings: Any, db: None) -> None:
    """Container engines and load balancers use IP addresses; all other pages need a host in ALLOWED_HOSTS."""
    settings.ALLOWED_HOSTS = ["example.org"]
    assert client.get("/health/live", headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/health", headers={"Host": "10.0.0.7:8000"}).status_code == 503
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api", headers={"Host": "evil.example"}).status_code == 400
