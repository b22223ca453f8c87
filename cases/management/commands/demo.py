"""manage.py demo: run the whole application on one machine, with a database, a demo account, web server and worker."""

from __future__ import annotations

import hashlib
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
from cases.benchmark.stack import Stack, require_free
from cases.images.intake import clean_name
from cases.limits.quotas import CapacityExceeded
from cases.models import Case, User
from inference.cli.arguments import in_folder
from inference.registry import NoModel

ACCOUNT = "demo"


class Command(BaseCommand):
    help = "Prepare the database and a demo account, then run web server and worker until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8000"), help="default: $PORT or 8000")
        parser.add_argument("--samples", type=Path, help="folder of images to add as a case")

    def handle(self, *args: Any, port: int, samples: Path | None, **options: Any) -> None:
        if samples and not samples.is_dir():
            raise CommandError(f"--samples: {samples} is not a folder.")
        require_free(port)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        password = self._account()
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with Stack(port, {}) as stack:
                address = f"http://localhost:{port}/"
                if samples:
                    address = f"http://localhost:{port}{self._open_case(samples).get_absolute_url()}"
                self._announce(address, password)
                while True:
                    stack.check_alive()
                    time.sleep(0.5)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _announce(self, address: str, password: str) -> None:
        self.stdout.write(
            f"\n  histopath is running at  {address}\n"
            f"  sign in as               {ACCOUNT}\n"
            f"  password                 {password}\n\n"
            "  For research and education; not for diagnosis. Ctrl-C stops everything.\n"
        )

    def _account(self) -> str:
        """Create the demo account if needed and return its password, which is kept in a file with mode 0600."""
        kept = settings.VAR / "demo-password"
        user = User.objects.filter(username=ACCOUNT).first()
        if user and kept.exists():
            password = kept.read_text()
            return password if user.check_password(password) else "(the password that you set)"
        password = secrets.token_urlsafe(12)
        kept.touch(mode=0o600)
        kept.write_text(password)
        user = user or User(username=ACCOUNT, email="demo@localhost", is_staff=True, is_superuser=True)
        user.set_password(password)
        user.save()
        return password

    def _open_case(self, folder: Path) -> Case:
        """Create or complete a case with the images of a folder. Images that it already holds are skipped."""
        title = f"Samples: {folder.resolve().name}"[:120]
        owner = User.objects.get(username=ACCOUNT)
        case = Case.objects.filter(owner=owner, title=title).first() or Case.objects.create(owner=owner, title=title)
        known = set(case.slides.values_list("original_name", "sha256"))
        uploads = []
        for path in in_folder(folder, recursive=True)[0]:
            content = path.read_bytes()
            if (clean_name(path.name), hashlib.sha256(content).hexdigest()) not in known:
                uploads.append(SimpleUploadedFile(path.name, content))
        if not uploads:
            return case
        try:
            _, rejected = services.add_slides(case, uploads)
        except (CapacityExceeded, NoModel) as error:
            self.stderr.write(f"{len(uploads)} samples were not added: {error}")
            return case
        for problem in rejected:
            self.stderr.write(f"{problem}. It was not added.")
        return case


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
