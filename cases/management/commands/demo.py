"""Everything on one machine: database, account, web server and worker, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
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
from inference import queue
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
        self._require_free(port)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        password = self._account()
        processes = [
            self._start("gunicorn", "-c", "python:histopath.gunicorn", "histopath.wsgi", PORT=str(port)),
            self._start(str(Path(sys.argv[0]).resolve()), "qcluster"),
        ]
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            self._wait_until_ready(port, processes)
            link = f"http://localhost:{port}/"
            if samples:
                link = f"http://localhost:{port}{self._open_case(samples).get_absolute_url()}"
            self.stdout.write(
                f"\n  histopath is running at  {link}\n"
                f"  sign in as               {ACCOUNT}\n"
                f"  password                 {password}\n\n"
                "  For research and education; not for diagnosis. Ctrl-C stops everything.\n"
            )
            self._watch(processes)
        except KeyboardInterrupt:
            self.stdout.write("\nStopping …")
        finally:
            signal.signal(signal.SIGTERM, previous)
            _stop(processes)
        self.stdout.write("Stopped.")

    def _require_free(self, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(f"Port {port} is in use. Choose another: make run PORT=8001") from error

    def _account(self) -> str:
        """The demo account's password, made once and kept where only this user reads it."""
        kept = settings.VAR / "demo-password"
        user = User.objects.filter(username=ACCOUNT).first()
        if user and kept.exists():
            password = kept.read_text()
            if user.check_password(password):
                return password
            return "(the one you changed it to)"
        password = secrets.token_urlsafe(12)
        kept.touch(mode=0o600)
        kept.write_text(password)
        user = user or User(username=ACCOUNT, email="demo@localhost", is_staff=True, is_superuser=True)
        user.set_password(password)
        user.save()
        return password

    def _start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        module = ["-m"] if not command[0].endswith(".py") else []
        # A session of its own: Ctrl-C reaches this process alone, which then stops the others in order.
        return subprocess.Popen(
            [sys.executable, *module, *command],
            env={**os.environ, "HOST": "127.0.0.1", **environment},
            start_new_session=True,
        )

    def _wait_until_ready(self, port: int, processes: list[subprocess.Popen[bytes]], seconds: int = 120) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check_alive(processes)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5):
                    if queue.worker_alive():
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.2)
        raise CommandError(f"The server was not ready after {seconds} seconds; see the messages above.")

    def _open_case(self, folder: Path) -> Case:
        """A case with the images of a folder, made once."""
        title = f"Samples: {folder.resolve().name}"
        owner = User.objects.get(username=ACCOUNT)
        case, created = Case.objects.get_or_create(owner=owner, title=title)
        if created:
            files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
            uploads = (SimpleUploadedFile(path.name, path.read_bytes()) for path in files)
            _, rejected = services.add_slides(case, uploads)
            for problem in rejected:
                self.stderr.write(f"{problem}. It was not added.")
        return case

    def _watch(self, processes: list[subprocess.Popen[bytes]]) -> None:
        while True:
            self._check_alive(processes)
            time.sleep(0.5)

    def _check_alive(self, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            if process.poll() is not None:
                raise CommandError(f"{process.args!r} ended by itself; see the messages above.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask each to finish, and after half a minute insist."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
