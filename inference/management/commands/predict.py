"""manage.py predict: classify images without a database or server."""

from __future__ import annotations

import io
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from inference.cli import arguments, main


class Command(BaseCommand):
    help = "Classify an image or a folder of images. Gives the same numbers as pages and API; needs no database."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_to(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal or pipe of another encoding must not cost the results.
            sys.stdout.reconfigure(errors="backslashreplace")
        # The output has its own line ends, and progress on stderr must not be coloured as an error.
        self.stdout.ending = self.stderr.ending = ""
        self.stderr.style_func = None
        code = main.run(options, settings.MODEL_DIR, self.stdout, self.stderr)  # type: ignore[arg-type]  # Django's wrapper of a TextIO
        if code:
            sys.exit(code)
