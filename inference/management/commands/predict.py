"""Classify images from a terminal; needs neither database nor server."""

from __future__ import annotations

import io
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from inference.cli import arguments, main


class Command(BaseCommand):
    help = "Classify an image, or the images of a folder, with the same numbers as page and API."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_to(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal or pipe of another encoding must not cost the results.
            sys.stdout.reconfigure(errors="backslashreplace")
        # Lines end by themselves; progress is no error to be coloured.
        self.stdout.ending = self.stderr.ending = ""
        self.stderr.style_func = None
        code = main.run(options, settings.MODEL_DIR, self.stdout, self.stderr)  # type: ignore[arg-type]
        if code:
            sys.exit(code)
