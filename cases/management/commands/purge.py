"""Delete what is past its time, now instead of at night."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from cases.services import privacy


class Command(BaseCommand):
    help = "Delete cases past RETENTION_DAYS, addresses past IP_RETENTION_DAYS, ended sessions and files left behind."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--all-files", action="store_true", help="also where unusually many files of the store belong to no slide"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        counted = privacy.purge(options["all_files"])
        self.stdout.write(", ".join(f"{number} {what}" for what, number in counted.items()) + " deleted")
