"""Everything back from one file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from cases import services
from cases.models import Slide
from cases.services import backups


class Command(BaseCommand):
    help = "Replace database, images and models by those of a backup. Stop web server and workers first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def _is_sure(self) -> bool:
        try:
            return input("What is there now will be replaced. Type yes: ") == "yes"
        except EOFError:
            return False

    def handle(self, *args: Any, file: Path, yes: bool, **options: Any) -> None:
        if newer := backups.newer_tables():
            self.stdout.write(f"Taken for tables of a newer version that was here, and dropped: {', '.join(newer)}")
        if not (yes or self._is_sure()):
            raise CommandError("Nothing was done. Say --yes where nobody can answer.")
        try:
            count, gone, left_out = backups.restore(file)
        except backups.BackupError as error:
            raise CommandError(str(error)) from error
        call_command("migrate", interactive=False, verbosity=0)
        for slide in Slide.objects.filter(Q(file__in=gone) | Q(thumbnail__in=gone)).select_related("case"):
            services.remove_slide(slide, None)
        for one in left_out:
            self.stderr.write(f"Not restored, as the folder of models can't be written: {one}")
        self.stdout.write(f"{count} files restored. Checking …")
        try:
            call_command("verify", stdout=self.stdout, stderr=self.stderr)
        finally:
            call_command("audit", "verify", stdout=self.stdout, stderr=self.stderr)
