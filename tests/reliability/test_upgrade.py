"""Migrations can be taken back and put on again, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Postgres
from .stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.live]


def there_and_back(stack: Stack) -> None:
    for step in (["migrate"], ["migrate", "cases", "zero"], ["migrate", "inference", "zero"], ["migrate"]):
        stack.manage(*step, "--no-input", "--verbosity", "0")
    assert "[ ]" not in stack.manage("showmigrations")


def test_on_sqlite(tmp_path: Path) -> None:
    there_and_back(Stack(tmp_path, {}))


def test_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    there_and_back(Stack(tmp_path, {"DATABASE_URL": postgres.database()}))
