"""The audit trail: check it, seal what is open, write it out."""

from __future__ import annotations

import json
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cases import audit
from cases.models import Event, Seal


class Command(BaseCommand):
    help = "verify: check the hash chain. seal: close open events. export: print every event as a line of JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["verify", "seal", "export"])
        parser.add_argument("--expect", default="", help="verify: a seal's hash noted earlier, which must be there")
        parser.add_argument("--case", type=uuid.UUID, help="export: only the events of this case")

    def handle(self, *args: Any, action: str, expect: str, case: uuid.UUID | None, **options: Any) -> None:
        getattr(self, action)(expect=expect, case=case)

    def verify(self, expect: str, **_: Any) -> None:
        problems = audit.verify(expect)
        for problem in problems:
            self.stderr.write(problem)
        if problems:
            raise CommandError(f"The trail is not whole: {len(problems)} problems.")
        last = Seal.objects.order_by("-pk").first()
        waiting = Event.objects.filter(seal=None).count()
        self.stdout.write(
            f"Whole: {Seal.objects.count()} seals over {Event.objects.count() - waiting} events, {waiting} not yet "
            f"sealed. Last hash: {last.hash if last else 'none'}"
        )

    def seal(self, **_: Any) -> None:
        while made := audit.seal():
            self.stdout.write(f"{made.count} events: {made.hash}")

    def export(self, case: uuid.UUID | None, **_: Any) -> None:
        events = Event.objects.filter(case_id=case) if case else Event.objects.all()
        for row in audit.rows(events):
            self.stdout.write(json.dumps(row))
