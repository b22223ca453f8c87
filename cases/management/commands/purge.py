"""manage.py purge: run the daily housekeeping now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from cases.services import retention


class Command(BaseCommand):
    help = "Delete cases past RETENTION_DAYS, addresses past IP_RETENTION_DAYS, ended sessions and unreferenced files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--all-files", action="store_true", help="delete unreferenced files even if there are unusually many"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        counted = retention.purge(options["all_files"])
        self.stdout.write(", ".join(f"{number} {what}" for what, number in counted.items()) + " deleted")
