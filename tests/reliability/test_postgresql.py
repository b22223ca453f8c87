"""The tests of the API, the queue and the services also pass on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

from .conftest import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.live]

#: Tests of behaviour where SQLite is more lenient: types, transactions, locks, time zones and null bytes.
ALIKE = [
    "tests/api",
    "tests/accounts",
    "tests/audit",
    "tests/jobs",
    "tests/limits",
    "tests/services",
    "tests/web/test_history.py",
    "tests/web/test_input.py",
]


def test_the_same_tests_pass_on_postgresql(postgres: Postgres) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ALIKE],
        cwd=ROOT, env={**os.environ, "DATABASE_URL": postgres.database()}, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
