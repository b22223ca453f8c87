"""Web server and worker as child processes: for ``manage.py demo``, the benchmark and the tests of real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from django.conf import settings
from django.core.management.base import CommandError

from inference.jobs import queue

COMMANDS = {
    "web": ["-m", "gunicorn", "-c", "python:histopath.gunicorn", "histopath.wsgi"],
    "worker": ["manage.py", "qcluster"],
}


def require_free(port: int) -> None:
    """Raise CommandError if another process listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OverflowError as error:
            raise CommandError(f"{port} is not a port number: they range from 1 to 65535.") from error
        except OSError as error:
            raise CommandError(f"Port {port} is in use. Choose another: make run PORT=8001") from error


def descendants(pid: int) -> list[int]:
    """Ids of all processes below this one. Empty where the system has no Linux ``/proc``."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


class Stack:
    """gunicorn and one worker cluster on this machine.

    ``environment`` is added to that of this process. Output goes to ``logs``/NAME.log, or to the terminal without
    ``logs``. ``prefix`` is a command that starts each process, such as ``prlimit`` with its options.
    """

    def __init__(
        self, port: int, environment: dict[str, str], *, logs: Path | None = None, prefix: Sequence[str] = ()
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.environment = environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.prefix = prefix
        self._logs = logs

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of the processes."""
        return {**os.environ, "HOST": "127.0.0.1", "PORT": str(self.port), **self.environment}

    def __enter__(self) -> Stack:
        try:
            for name in COMMANDS:
                self.start(name)
            self.wait_until_ready()
        except BaseException:  # raised again; no process stays behind
            self.stop_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(self, name: str) -> None:
        """Start one of :data:`COMMANDS` without waiting for it."""
        with contextlib.ExitStack() as opened:
            log = opened.enter_context((self._logs / f"{name}.log").open("ab")) if self._logs else None
            # In a separate session Ctrl-C reaches only this process, which then stops the others in order.
            self.processes[name] = subprocess.Popen(
                [*self.prefix, sys.executable, *COMMANDS[name]],
                cwd=settings.BASE_DIR, env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self, seconds: float = 120) -> None:
        """Wait until the server answers and a worker's heartbeat is seen.

        Raises CommandError when a process ends or the time is over.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check_alive()
            try:
                with urllib.request.urlopen(f"{self.url}/health/live", timeout=5):  # noqa: S310  our own address
                    if queue.worker_alive():
                        return
            except OSError:
                pass  # The server does not listen yet.
            time.sleep(0.2)
        raise CommandError(f"The server was not ready after {seconds:.0f} seconds; see the messages above.")

    def check_alive(self) -> None:
        """Raise CommandError if a process has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise CommandError(f"The {name} process ended unexpectedly; see the messages above.")

    def stop_all(self) -> None:
        """Ask each process to finish; kill those that are still running after 40 seconds."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
