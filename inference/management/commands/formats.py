"""``manage.py formats > docs/formats.md``: what image files are read, how, and what is not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from inference.engine.formats import table


class Command(BaseCommand):
    help = "Print which image files are read, and how (docs/formats.md)."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.writelines(f"{line}\n" for line in table.page())
