"""What the log contains, and what it must not contain."""

from __future__ import annotations

import logging

import pytest
from django.db import IntegrityError, transaction

from cases.models import User
from histopath import logging as logs
from tests.factories import UserFactory


@pytest.mark.parametrize("form", ["plain", "json"])
def test_tracebacks_do_not_contain_database_rows(form: str, caplog: pytest.LogCaptureFixture, db: None) -> None:
    """PostgreSQL's errors quote the offending values."""
    taken = UserFactory(username="jane-doe").username
    try:
        with transaction.atomic():
            User.objects.create(username=taken)
    except IntegrityError:
        logging.getLogger("cases").exception("It failed.")
    made = dict(logs.configuration(form, "INFO")["formatters"][form])
    factory = {"histopath.logging.Plain": logs.Plain, "histopath.logging.Json": logs.Json}
    formatter = factory[made.pop("()")](made.pop("format"), **made)
    logs.Context().filter(caplog.records[-1])
    line = formatter.format(caplog.records[-1])
    assert "IntegrityError" in line and "User.objects.create" in line
    assert "jane-doe" not in line.replace('username="jane-doe"', "")


def test_only_quoted_database_rows_are_removed() -> None:
    first = "psycopg.errors.UniqueViolation: duplicate key\nDETAIL:  Key (title)=(Jane\nDoe) already exists."
    between = "\n\nThe above exception was the direct cause of the following exception:\n\nTraceback:\n"
    said = logs.redact_row_values(f"{first}{between}django.db.utils.{first}")
    assert "Jane" not in said and "Doe" not in said
    assert said.count("UniqueViolation") == 2 and between in said


def test_checkpoint_hashes_are_logged_at_every_level() -> None:
    assert logs.configuration("json", "ERROR")["loggers"]["cases.audit"]["level"] == "INFO"
