"""Migrations can be reversed and applied again, on both databases and while the application runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from .conftest import Postgres, Start
from .stack import LEASE, Stack, until
from .test_kills import assert_all_done

pytestmark = [pytest.mark.slow, pytest.mark.live]


def there_and_back(stack: Stack) -> None:
    for step in (["migrate"], ["migrate", "cases", "zero"], ["migrate", "inference", "zero"], ["migrate"]):
        stack.manage(*step, "--no-input", "--verbosity", "0")
    assert "[ ]" not in stack.manage("showmigrations")


def test_on_sqlite(tmp_path: Path) -> None:
    there_and_back(Stack(tmp_path, {}))


def test_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    there_and_back(Stack(tmp_path, {"DATABASE_URL": postgres.database()}))


def names(stack: Stack, app: str) -> list[str]:
    """The migrations of an app, oldest first."""
    lines = stack.manage("showmigrations", app).splitlines()
    return [line.split()[-1] for line in lines if line.strip().startswith("[")]


def counts(stack: Stack) -> dict[str, int]:
    return stack.ask(
        """
        from django.apps import apps
        # Not compared: audit events grow with every request, and the queue state is recreated.
        made_anew = ("AuditEvent", "AuditCheckpoint", "UserQueueState")
        kept = [model for app in ("cases", "inference") for model in apps.get_app_config(app).get_models()]
        answer = {model.__name__: model.objects.count() for model in kept if model.__name__ not in made_anew}
        """
    )


def upgrade_while_it_works(stack: Stack, images: list[bytes]) -> None:
    """Reverse and reapply one migration while slides are queued and web server and worker run."""
    accepted = {slide["id"] for n in range(6) for slide in stack.upload(images[n]).json()["slides"]}
    before = counts(stack)
    steps = {app: names(stack, app)[-2:] for app in ("cases", "inference")}
    for app, (previous, _) in steps.items():
        stack.manage("migrate", app, previous, "--no-input", "--verbosity", "0")
    # The code meets older tables: requests may fail with a clear error, but the processes keep running.
    answer = requests.get(f"{stack.url}/api/v1/cases/{stack.case}", headers=stack.headers, timeout=30)
    assert answer.status_code in (200, 503), answer.text
    for app, (_, last) in steps.items():
        stack.manage("migrate", app, last, "--no-input", "--verbosity", "0")
    assert {name: process.poll() for name, process in stack.processes.items()} == {"web": None, "worker": None}
    until(60, lambda: requests.get(f"{stack.url}/health", timeout=5).status_code == 200, "healthy without a restart")
    until(LEASE + 120, stack.settled, "all settled")
    assert_all_done(stack, accepted)
    after = counts(stack)
    # Only results are new; everything else is still there.
    assert {name: number for name, number in before.items() if after[name] < number} == {}


def test_with_web_and_worker_running_on_sqlite(start: Start, images: list[bytes]) -> None:
    with start() as stack:
        upgrade_while_it_works(stack, images)


def test_with_web_and_worker_running_on_postgresql(start: Start, images: list[bytes], postgres: Postgres) -> None:
    with start(DATABASE_URL=postgres.database()) as stack:
        upgrade_while_it_works(stack, images)
