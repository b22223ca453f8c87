"""Web server and worker as child processes of one command, stopped in order when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import TracebackType

from django.conf import settings
from django.core.management.base import CommandError

from inference.jobs import queue


def require_free(port: int) -> None:
    """Raise CommandError if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OverflowError as error:
            raise CommandError(f"{port} is no port: they go from 1 to 65535.") from error
        except OSError as error:
            raise CommandError(f"Port {port} is in use. Choose another: make run PORT=8001") from error


COMMANDS = {
    "web server": ["-m", "gunicorn", "-c", "python:histopath.gunicorn", "histopath.wsgi"],
    "worker": ["manage.py", "qcluster"],
}


class Stack:
    """gunicorn and one cluster of workers on this machine. Raises CommandError when one dies or none gets ready."""

    def __init__(self, port: int, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port), **environment}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Stack:
        for name in COMMANDS:
            self.start(name)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str) -> None:
        """Start one of :data:`COMMANDS`, without waiting for it."""
        # A session of its own: Ctrl-C reaches the command alone, which then stops the others in order.
        self.processes[name] = subprocess.Popen(
            [sys.executable, *COMMANDS[name]], cwd=settings.BASE_DIR, env=self._environment, start_new_session=True
        )

    def wait_until_ready(self, seconds: int = 120) -> None:
        """Until the server answers and a worker's heartbeat is seen."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check_alive()
            try:
                with urllib.request.urlopen(f"{self.url}/health/live", timeout=5):  # noqa: S310  our own address
                    if queue.worker_alive():
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.2)
        raise CommandError(f"The server was not ready after {seconds} seconds; see the messages above.")

    def check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise CommandError(f"The {name} ended by itself; see the messages above.")

    def stop(self) -> None:
        """Ask each to finish, and after half a minute insist."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
