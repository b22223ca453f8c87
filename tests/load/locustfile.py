"""Users who browse and users who upload, for locust. ``test_load.py`` starts it against a running application.

LOAD_SESSION is a session cookie's value, LOAD_TOKEN an API token, LOAD_CASES the ids of cases with slides, LOAD_IMAGES
a folder of PNG files.
"""

from __future__ import annotations

import json
import os
import random
import sys
import uuid
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task

CASES = json.loads(os.environ["LOAD_CASES"])
IMAGES = [path.read_bytes() for path in sorted(Path(os.environ["LOAD_IMAGES"]).glob("*.png"))]


@events.request.add_listener
def on_request(name: str, exception: Exception | None, **kwargs: Any) -> None:
    """Failures for the message of the test; locust's JSON has only their number."""
    if exception:
        print(f"FAILED {name}: {exception!r}", file=sys.stderr)


class Reader(HttpUser):
    """Opens the history and cases, and polls progress."""

    weight = 5
    wait_time = between(2, 8)

    def on_start(self) -> None:
        self.client.cookies["sessionid"] = os.environ["LOAD_SESSION"]

    @task(3)
    def history(self) -> None:
        self.client.get("/cases/", name="history")

    @task(5)
    def case(self) -> None:
        self.client.get(f"/cases/{random.choice(CASES)}/", name="case")

    @task(4)
    def progress(self) -> None:
        self.client.get(f"/cases/{random.choice(CASES)}/progress/", name="progress")

    @task(1)
    def statistics(self) -> None:
        self.client.get("/statistics/", name="statistics")


class Uploader(HttpUser):
    """Adds an image from time to time; 429 does not count as a failure."""

    weight = 1
    wait_time = between(5, 20)

    @task
    def upload(self) -> None:
        with self.client.post(
            f"/api/v1/cases/{random.choice(CASES)}/slides",
            files=[("files", (f"{uuid.uuid4().hex}.png", random.choice(IMAGES), "image/png"))],
            headers={"Authorization": f"Token {os.environ['LOAD_TOKEN']}"},
            name="upload",
            catch_response=True,
        ) as answer:
            if answer.status_code in (201, 429):
                answer.success()
