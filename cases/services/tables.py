"""CSV, written in one way everywhere: RFC 4180 line ends, and no cell that a spreadsheet would run as a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from django.http import HttpResponse

#: Without it, spreadsheets don't read a file as UTF-8.
BYTE_ORDER_MARK = "\ufeff"
#: Spreadsheets read a cell that begins with one of these as a formula.
FORMULA = "=+-@\t\r\n＝＋－＠"
_FORMULA_START = re.compile(rf"(^|[;\t\r\n]\s*)([{re.escape(FORMULA)}])")


def safe_cell(value: Any) -> Any:
    """A value as a cell: None as empty, text with an apostrophe before anything that could begin a formula."""
    if isinstance(value, str):
        # Some spreadsheets also split cells at semicolons, tabs and line breaks; the rest then begins a new cell.
        return _FORMULA_START.sub(r"\1'\2", value)
    return "" if value is None else value


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a header line."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return out.getvalue()


def csv_response(filename: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """A table as a download that opens in a spreadsheet."""
    return HttpResponse(
        BYTE_ORDER_MARK + to_csv(columns, rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )
