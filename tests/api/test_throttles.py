"""Throttles, idempotency keys and caches of the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from cases.accounts import tokens
from cases.models import Slide, User
from inference.models import ModelVersion
from tests.factories import upload


def test_a_forged_address_does_not_reset_the_apis_throttle(db: None, settings: Any) -> None:
    cache.clear()
    body = json.dumps({"username": "x", "password": "wrong"})
    found = [
        Client(headers={"X-Forwarded-For": f"192.0.2.{n}"})
        .post(reverse("api:sign-in"), body.replace("x", f"person{n}"), content_type="application/json")
        .status_code
        for n in range(12)
    ]
    assert found[0] == 401 and found[-1] == 429
    cache.clear()


def test_idempotency_keys_are_ones_own(
    alice: User, charlie: User, media: Path, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cases.api import submit as calls
    from inference.jobs import queue

    monkeypatch.setattr(queue, "worker_alive", lambda: True)
    options = calls.Options(0.0, "unknown")
    mine = calls.submit(alice, [upload()], options, is_folder=False, key="same")
    other = calls.submit(charlie, [upload()], options, is_folder=False, key="same")
    assert mine.case.pk != other.case.pk and other.case.owner == charlie and not other.replayed


def test_what_a_token_reads_is_kept_nowhere(alice: User, finished: Slide) -> None:
    _, plain = tokens.create(alice, "script")
    client = Client(headers={"Authorization": f"Token {plain}"})
    for path in (
        reverse("api:cases"),
        reverse("api:case", args=[finished.case_id]),
        reverse("api:slide-image", args=[finished.pk]),
        reverse("api:analyses"),
    ):
        answer = client.get(path)
        if answer.streaming:
            b"".join(answer)
        assert answer.status_code == 200 and "no-store" in answer["Cache-Control"], path
