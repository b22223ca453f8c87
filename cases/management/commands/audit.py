"""manage.py audit: verify, extend and export the audit trail."""

from __future__ import annotations

import json
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cases import audit
from cases.models import AuditCheckpoint, AuditEvent


class Command(BaseCommand):
    help = "verify: check the hash chain. seal: write a checkpoint now. export: print every event as a line of JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["verify", "seal", "export"])
        parser.add_argument(
            "--expect", default="", help="verify: hash of an earlier checkpoint that the chain must contain"
        )
        parser.add_argument("--case", type=uuid.UUID, help="export: only the events of this case")

    def handle(self, *args: Any, action: str, expect: str, case: uuid.UUID | None, **options: Any) -> None:
        getattr(self, action)(expect=expect, case=case)

    def verify(self, expect: str, **_: Any) -> None:
        problems = audit.verify(expect)
        for problem in problems:
            self.stderr.write(problem)
        if problems:
            raise CommandError(f"The audit trail is damaged; problems found: {len(problems)}.")
        last = AuditCheckpoint.objects.order_by("-pk").first()
        waiting = AuditEvent.objects.filter(checkpoint=None).count()
        checkpoints, events = AuditCheckpoint.objects.count(), AuditEvent.objects.count() - waiting
        self.stdout.write(
            f"Valid: {checkpoints} checkpoints cover {events} events, {waiting} are not covered yet. "
            f"Last hash: {last.hash if last else 'none'}"
        )

    def seal(self, **_: Any) -> None:
        while made := audit.add_checkpoint():
            self.stdout.write(f"{made.count} events: {made.hash}")

    def export(self, case: uuid.UUID | None, **_: Any) -> None:
        events = AuditEvent.objects.filter(case_id=case) if case else AuditEvent.objects.all()
        for row in audit.rows(events):
            self.stdout.write(json.dumps(row))
