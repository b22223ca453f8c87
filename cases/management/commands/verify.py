"""Check every stored image and model file against its checksum."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cases import integrity
from cases.models import Slide


class Command(BaseCommand):
    help = "Check every stored image and model against its checksum, and report files that belong to nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(integrity.problems())
        for problem in found:
            self.stderr.write(problem)
        if found:
            raise CommandError(f"{len(found)} problems.")
        self.stdout.write(f"{Slide.objects.count()} slides and every model are whole.")
