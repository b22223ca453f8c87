"""Uploads and exports leave disk space for the database."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from cases.accounts import tokens
from cases.models import Case, Slide, User
from cases.services import privacy
from inference.models import ModelVersion
from tests.factories import upload

As = Callable[[User], Client]


def test_who_is_not_signed_in_can_not_fill_the_disk(client: Client, db: None) -> None:
    """Django reads a form with its files before any view asks who sends it."""
    answer = client.post(reverse("account_login"), {"login": "x", "large": SimpleUploadedFile("x", bytes(5_000_000))})
    assert answer.status_code == 200
    assert answer.wsgi_request.FILES["large"].size == 0


def test_an_upload_that_does_not_fit_is_refused_before_it_is_written(
    as_user: As, alice: User, case: Case, settings: Any
) -> None:
    settings.MIN_FREE_DISK = 2**62
    client = as_user(alice)
    client.raise_request_exception = False
    answer = client.post(reverse("cases:add_slides", args=[case.pk]), {"images": [upload("a.png", bytes(4_000_000))]})
    assert answer.status_code == 503


def test_so_is_one_of_a_program(alice: User, case: Case, model: ModelVersion, settings: Any) -> None:
    settings.MIN_FREE_DISK = 2**62
    _, plain = tokens.create(alice, "script")
    client = Client(headers={"Authorization": f"Token {plain}"}, raise_request_exception=False)
    answer = client.post(reverse("api:case-slides", args=[case.pk]), {"files": [upload("a.png", bytes(4_000_000))]})
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")


def test_an_export_of_ones_data_asks_for_room_file_by_file(
    alice: User, slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(privacy, "require_space", asked.append)
    privacy.write_export(alice, io.BytesIO())
    assert asked == [slide.file.size]


def test_an_export_of_ones_data_leaves_the_reserve_alone(as_user: As, alice: User, slide: Slide, settings: Any) -> None:
    settings.MIN_FREE_DISK = 2**62
    client = as_user(alice)
    client.raise_request_exception = False
    assert client.get(reverse("cases:data_export")).status_code == 503
