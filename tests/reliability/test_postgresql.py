"""What is tested on SQLite elsewhere holds on PostgreSQL: the API, the queue, data rights, backup and restore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

from .conftest import Postgres, Start
from .stack import Stack, until

pytestmark = [pytest.mark.slow, pytest.mark.live]

#: Tests that ask the database what SQLite is more lenient about: types, transactions, locks, time zones, zero bytes.
ALIKE = [
    "tests/api",
    "tests/accounts",
    "tests/audit",
    "tests/jobs",
    "tests/limits",
    "tests/services",
    "tests/web/test_input.py",
]


#: Tables that an upgrade brought, of apps of its own and of those that were there.
NEWER = {"django_site": "sites", "polls_poll": "polls", "cases_batch": "cases"}


def test_the_same_tests_pass_on_postgresql(postgres: Postgres) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ALIKE],
        cwd=ROOT, env={**os.environ, "DATABASE_URL": postgres.database()}, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_backup_of_postgresql_brings_everything_back_elsewhere(
    start: Start, tmp_path: Path, postgres: Postgres, images: list[bytes]
) -> None:
    with start(DATABASE_URL=postgres.database()) as stack:
        for image in images[:2]:
            assert stack.upload(image).status_code == 201
        until(120, stack.settled, "settled")
        before = stack.rows()
        used = stack.ask("""
            from django.db import connection
            connection.ensure_connection()
            answer = connection.connection.info.get_parameters()
        """)
        assert used["tcp_user_timeout"] == "30000" and used["keepalives_idle"] == "10", "a vanished server is noticed"
        # While it runs, and with a slide that is only just queued.
        stack.upload(images[2])
        stack.manage("backup", str(tmp_path / "backup.tar"))

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    other = Stack(fresh, {**stack.environment, "DATABASE_URL": postgres.database()})
    said = other.manage("restore", str(tmp_path / "backup.tar"), "--yes")
    assert "3 slides, 1 cases and every model are whole" in said and "Valid:" in said
    assert "3 slides, 1 cases and every model are whole" in other.manage("verify")
    after = {row["slide"]: row for row in other.rows()}
    assert len(after) == 3 and all(row["file"] for row in after.values())
    assert all(after[row["slide"]] == row for row in before)

    other.headers, other.case = stack.headers, stack.case
    try:
        other.start_all()
        until(120, other.settled, "what waited in the backup is done")
    finally:
        other.stop_all()
    assert {row["state"] for row in other.rows()} == {"done"}


def test_a_backup_of_before_an_upgrade_is_restored_over_the_newer_database(
    start: Start, tmp_path: Path, postgres: Postgres, images: list[bytes]
) -> None:
    """The newer one has tables of which the backup knows nothing; and a slide goes while the backup is written."""
    var = tmp_path / "old"
    var.mkdir()
    stack = Stack(var, {"DATABASE_URL": postgres.database(), "MODEL_DIR": str(var)})
    stack.manage("migrate", "cases", "0004", "--no-input")
    stack.manage("migrate", "inference", "--no-input")
    stack.manage("backup", str(tmp_path / "backup.tar"))
    stack.prepare()
    assert len(stack.ask("answer = [str(case.pk) for case in Case.objects.all()]")) == 1
    said = stack.manage("restore", str(tmp_path / "backup.tar"), "--yes")
    assert "0 slides, 0 cases and every model are whole" in said and "Valid:" in said
    assert stack.ask("answer = [Case.objects.count(), Pseudonym.objects.count()]") == [0, 0]


def test_a_backup_is_of_the_applications_tables_wherever_they_are(tmp_path: Path, postgres: Postgres) -> None:
    """Though the role gets a schema of its own later, which comes first; and what is others' stays as it is."""
    url = postgres.database()
    stack = Stack(tmp_path, {"DATABASE_URL": url, "MODEL_DIR": str(tmp_path)})
    stack.prepare()
    postgres.administer(url, "CREATE SCHEMA app AUTHORIZATION app; CREATE TABLE public.seen AS SELECT 1 AS n")
    # Of another application with the same role.
    postgres.administer(url, "SET ROLE app; CREATE TABLE public.auth_ledger AS SELECT 1 AS n")
    postgres.administer(url, "SET ROLE app; CREATE TABLE public.inference_copy AS SELECT 1 AS n")
    stack.manage("backup", str(tmp_path / "backup.tar"))
    for others in ("auth_ledger", "inference_copy"):
        postgres.administer(url, f"INSERT INTO public.{others} VALUES (2)")
    noted = "INSERT INTO django_migrations (app, name, applied) VALUES ('{}', '9999_newer', now())"
    for _ in range(2):
        # Of a library that changed a column.
        postgres.administer(url, noted.format("auth"))
        # What an upgrade brought that was taken back, an app of its own among it.
        for brought, label in NEWER.items():
            person = "person int REFERENCES public.cases_user"
            postgres.administer(url, f"SET ROLE app; CREATE TABLE public.{brought} ({person})")
            postgres.administer(url, noted.format(label))
        postgres.administer(url, "TRUNCATE public.cases_user CASCADE")
        said = stack.manage("restore", str(tmp_path / "backup.tar"), "--yes")
        assert "0 slides, 1 cases and every model are whole" in said
        assert all(f"public.{brought}" in said for brought in NEWER)
    postgres.administer(url, "SELECT n FROM public.seen")
    for others in ("auth_ledger", "inference_copy"):
        postgres.administer(url, f"SELECT 1 / count(*) FROM public.{others} WHERE n = 2")
    for gone in NEWER:
        with pytest.raises(subprocess.CalledProcessError):
            postgres.administer(url, f"SELECT * FROM public.{gone}")

    postgres.administer(url, "CREATE VIEW public.report AS SELECT title FROM public.cases_case")
    with pytest.raises(AssertionError, match="view report depends on"):
        stack.manage("restore", str(tmp_path / "backup.tar"), "--yes")
    postgres.administer(url, "SELECT title FROM public.report; DROP VIEW public.report")
    assert stack.ask("answer = [Case.objects.create(owner=User.objects.get(), title='new').title]") == ["new"]
