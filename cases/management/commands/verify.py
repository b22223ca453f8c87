"""manage.py verify: check stored images and models against their checksums, and cases against their analyses."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases import services
from cases.models import Case, Slide
from cases.services import integrity


class Command(BaseCommand):
    help = (
        "Check every stored image and model against its checksum and every case against its analyses, and report files "
        "that nothing refers to."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--mend", action="store_true", help="recalculate case results from their analyses")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["mend"]:
            mended = sum(services.check_aggregate(pk, mend=True) for pk in Case.objects.values_list("pk", flat=True))
            self.stdout.write(f"{mended} case results corrected.")
        found = list(integrity.problems())
        for problem in found:
            self.stderr.write(problem)
        if found:
            raise CommandError(f"Problems found: {len(found)}.")
        self.stdout.write(f"{Slide.objects.count()} slides, {Case.objects.count()} cases and all models are intact.")
