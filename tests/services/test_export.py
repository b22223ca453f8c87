"""Exports hold no formulas."""

from __future__ import annotations

import csv
import io

import pytest

from cases import services
from cases.models import Case, User
from cases.services import export
from inference.tables import safe_cell, write_csv
from tests.factories import CaseFactory


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_of_an_export_is_a_formula(start: str, alice: User) -> None:
    case = CaseFactory(owner=alice, title=f"{start}cmd|' /C calc'!A0", patient=f"{start}1")
    out = io.StringIO()
    write_csv(out, export.COLUMNS, export.rows(export.with_everything(Case.objects.filter(pk=case.pk)), alice))
    (_, line) = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert line[1].startswith("'") and line[2].startswith("'")


def test_neither_is_what_follows_a_semicolon() -> None:
    assert safe_cell("a;=1+1;b") == "a;'=1+1;b"
    assert safe_cell("x; @SUM(A1)\t+2") == "x; '@SUM(A1)\t'+2"
    assert safe_cell("a\n=1") == "a\n'=1"
    assert safe_cell("5 µm; grade 2-3") == "5 µm; grade 2-3"
    assert safe_cell(-0.5) == -0.5


def test_readings_and_tags_are_in_it(alice: User) -> None:
    case = CaseFactory(owner=alice)
    services.set_tags(case, ["second opinion", "core"])
    services.sign_review(case, alice, "benign", comment="Fibrosis.")
    (line,) = export.rows(export.with_everything(Case.objects.all()), alice)
    row = dict(zip(export.COLUMNS, line, strict=True))
    assert row["tags"] == "core, second opinion"
    assert row["readings"].startswith(alice.username) and row["readings"].endswith(": benign, Fibrosis.")
