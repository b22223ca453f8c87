"""Replacing a service where other services call it, and reading what a report prints."""

from __future__ import annotations

from typing import Any

import pytest

from cases import services
from cases.reporting import pdf
from cases.services import aggregation, analyses, cases, reviews, timeline


def patch_service(monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any) -> None:
    """Replace ``services.<name>`` in every module of the package that uses it."""
    for module in (services, aggregation, analyses, cases, reviews, timeline):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, replacement)


def printed_pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The HTML of the reports that are made from now on, which is what their PDF shows."""
    pages, render = list[str](), pdf.render_to_string

    def rendered(template: str, context: dict[str, Any]) -> str:
        pages.append(render(template, context))
        return pages[-1]

    monkeypatch.setattr(pdf, "render_to_string", rendered)
    return pages
