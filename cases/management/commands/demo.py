"""Everything on one machine: database, account, web server and worker, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import time
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from cases import services
from cases.models import Case, User
from cases.stack import Stack, require_free
from inference.engine.image import SUFFIXES

ACCOUNT = "demo"


class Command(BaseCommand):
    help = "Prepare the database and a demo account, then run web server and worker until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
        parser.add_argument("--samples", type=Path, help="a folder of images to open a ready case with")

    def handle(self, *args: Any, port: int, samples: Path | None, **options: Any) -> None:
        if samples and not samples.is_dir():
            raise CommandError(f"--samples: {samples} is no folder.")
        require_free(port)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        password = self._account()
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with Stack(port) as stack:
                address = f"http://localhost:{port}/"
                if samples:
                    address = f"http://localhost:{port}{self._open_case(samples).get_absolute_url()}"
                self._tell(address, password)
                while True:
                    stack.check_alive()
                    time.sleep(0.5)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _tell(self, address: str, password: str) -> None:
        self.stdout.write(
            f"\n  histopath is running at  {address}\n"
            f"  sign in as               {ACCOUNT}\n"
            f"  password                 {password}\n\n"
            "  For research and education; not for diagnosis. Ctrl-C stops everything.\n"
        )

    def _account(self) -> str:
        """The demo account's password, made once and kept where only this user reads it."""
        kept = settings.VAR / "demo-password"
        user = User.objects.filter(username=ACCOUNT).first()
        if user and kept.exists():
            password = kept.read_text()
            return password if user.check_password(password) else "(the one you changed it to)"
        password = secrets.token_urlsafe(12)
        kept.touch(mode=0o600)
        kept.write_text(password)
        user = user or User(username=ACCOUNT, email="demo@localhost", is_staff=True, is_superuser=True)
        user.set_password(password)
        user.save()
        return password

    def _open_case(self, folder: Path) -> Case:
        """A case with the images of a folder, made once."""
        title = f"Samples: {folder.resolve().name}"
        owner = User.objects.get(username=ACCOUNT)
        case, created = Case.objects.get_or_create(owner=owner, title=title)
        if created:
            files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
            uploads = [SimpleUploadedFile(path.name, path.read_bytes()) for path in files]
            _, rejected = services.add_slides(case, uploads)
            for problem in rejected:
                self.stderr.write(f"{problem}. It was not added.")
        return case


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
