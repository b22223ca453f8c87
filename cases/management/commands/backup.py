"""Everything into one file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cases.services import backups


class Command(BaseCommand):
    help = "Write database, images and models into one file; the application may run meanwhile."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        if file.exists():
            raise CommandError(f"{file} exists already.")
        try:
            count, missing = backups.make(file)
        except (OSError, backups.BackupError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{file}: {count} files, {file.stat().st_size} bytes. Keep it as safe as the images.")
        if missing:
            # So that whoever deletes older backups after this one stops.
            raise CommandError(
                f"{missing} files of slides are not in it: the store does not have them. Is it the right one?"
            )
