"""Replacing a service where other services call it."""

from __future__ import annotations

from typing import Any

import pytest

from cases import services
from cases.services import aggregation, analyses, cases, reviews, timeline


def patch_service(monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any) -> None:
    """Replace ``services.<name>`` in every module of the package that uses it."""
    for module in (services, aggregation, analyses, cases, reviews, timeline):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, replacement)
