"""An API client with a token, a registered model of random weights, and a worker in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from cases.accounts import tokens
from cases.models import User
from inference.jobs import queue, worker
from inference.models import Cluster, ModelVersion
from inference.registry import activate, add


def png(seed: int = 0, size: tuple[int, int] = (224, 224)) -> bytes:
    """A small readable image, a different one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def file(name: str = "field.png", seed: int = 0, content: bytes | None = None) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, png(seed) if content is None else content, "image/png")


class Api(Client):
    """Django's client that signs in with a token and expects problem documents where things fail."""

    def __init__(self, user: User | None = None, **kwargs: Any) -> None:
        self.token = tokens.create(user, "tests")[1] if user else ""
        headers = {"Authorization": f"Token {self.token}"} if user else {}
        super().__init__(headers=headers, raise_request_exception=False, **kwargs)

    def problem(self, method: str, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The problem document that a call is answered with; checks its form."""
        response = getattr(self, method)(path, *args, **kwargs)
        return problem_of(response)


def problem_of(response: Any) -> dict[str, Any]:
    assert response["Content-Type"] == "application/problem+json", response.content[:300]
    body: dict[str, Any] = json.loads(response.content)
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:histopath:problem:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return body


@pytest.fixture
def api(alice: User, media: Path) -> Api:
    return Api(alice)


@pytest.fixture
def stranger(charlie: User) -> Api:
    return Api(charlie)


@pytest.fixture
def anonymous(db: None) -> Api:
    return Api()


@pytest.fixture
def alive(db: None) -> Cluster:
    """A worker cluster that was heard of just now."""
    return Cluster.objects.create(host="here", pid=1)


@pytest.fixture
def network(settings: Any, random_checkpoint: Path, db: None) -> ModelVersion:
    """A registered, active checkpoint of random weights."""
    settings.MODEL_DIR = random_checkpoint.parent
    version = add(random_checkpoint)
    activate(version)
    return version


@pytest.fixture
def queued(alive: Cluster, network: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Everything is there but nobody works yet; call it to work off the queue."""
    monkeypatch.setattr(queue, "wake", lambda: None)
    return worker.process_queue


@pytest.fixture
def works(alive: Cluster, network: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up is followed at once by the work, in this process instead of a worker's."""
    monkeypatch.setattr(queue, "wake", worker.process_queue)
