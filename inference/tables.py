"""CSV output of pages, API and command line, protected against formula injection in spreadsheets."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

#: Spreadsheets read a cell that begins with one of these as a formula.
FORMULA = "=+-@\t\r\n＝＋－＠"
_FORMULA_START = re.compile(rf"(^|[;\t\r\n]\s*)([{re.escape(FORMULA)}])")


def safe_cell(value: Any) -> Any:
    """A value for a cell: None becomes empty, and an apostrophe precedes text that could start a formula."""
    if isinstance(value, str):
        # Some spreadsheets also split cells at semicolons, tabs and line breaks; the rest then begins a new cell.
        return _FORMULA_START.sub(r"\1'\2", value)
    return "" if value is None else value


def write_csv(out: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]], line_end: str = "\r\n") -> None:
    """Write a header line and the rows to ``out``."""
    writer = csv.writer(out, lineterminator=line_end)
    writer.writerow(columns)
    writer.writerows([safe_cell(value) for value in row] for row in rows)
