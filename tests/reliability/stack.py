"""gunicorn and qcluster as real processes that can be killed and restarted, and queries for their results."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import requests
from PIL import Image

from cases.benchmark import stack
from cases.benchmark.stack import descendants as children
from tests.conftest import ROOT
from tests.live.conftest import free_port

LEASE = 10


def until(seconds: float, check: Callable[[], Any], what: str) -> Any:
    """Repeat a call until its result is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(requests.RequestException):
            if found := check():
                return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def field(seed: int, side: int = 224) -> tuple[str, tuple[str, bytes, str]]:
    """A small file: a field in H&E colours with a corner that depends on the seed."""
    pixels = np.full((side, side, 3), (200, 140, 190), dtype=np.uint8)
    pixels[:8, :8] = np.random.default_rng(seed).integers(0, 256, (8, 8, 3))
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "files", (f"field-{seed:03}.png", out.getvalue(), "image/png")


class Stack(stack.Stack):
    """The processes of the application, its database and a token for its API. ``var`` keeps files and logs."""

    def __init__(self, var: Path, environment: dict[str, str], prefix: Sequence[str] = ()) -> None:
        super().__init__(free_port(), environment, logs=var, prefix=prefix)
        self.var = var
        self.headers: dict[str, str] = {}
        self.case = ""

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "histopath.settings",
            "SECRET_KEY": "only-for-tests-" + "z" * 40,
            "DEBUG": "off",
            "HTTPS": "off",
            "ALLOWED_HOSTS": "127.0.0.1",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "VAR_DIR": str(self.var),
            "MEDIA_ROOT": str(self.var / "media"),
            "STATIC_ROOT": str(self.var / "static"),
            "ANALYSIS_LEASE": str(LEASE),
            "API_RATE_USER": "100000/min",
            "API_RATE_PREDICT": "100000/min",
            "UPLOAD_MAX_FILES": "50",
            **self.environment,
        }

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, code: str) -> Any:
        """Run code with the models imported; returns the value of ``answer``."""
        preamble = "import json\nfrom cases.models import *\nfrom inference.models import *\n"
        out = self.manage(
            "shell", "--no-imports", "-c", preamble + textwrap.dedent(code) + "\nprint('>>>' + json.dumps(answer))"
        )
        return json.loads(out.rsplit(">>>", 1)[1])

    def prepare(self) -> None:
        """Create the database, a model, a user with a token, and a case."""
        self.manage("migrate", "--no-input")
        token, case = self.ask(
            """
            from cases.accounts import tokens
            user = User.objects.create_user("alice", "alice@example.org", "correct horse battery staple")
            answer = [tokens.create(user, "test")[1], str(Case.objects.create(owner=user, title="Killed").pk)]
            """
        )
        self.headers = {"Authorization": f"Token {token}"}
        self.case = case

    def start_all(self) -> None:
        self.start("web")
        self.start("worker")
        self.wait_ready()

    def wait_ready(self, seconds: float = 90) -> None:
        until(seconds, lambda: requests.get(f"{self.url}/health", timeout=5).status_code == 200, "healthy")

    def supervise(self) -> None:
        """Restart processes that have ended, as systemd or a container engine does."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.start(name)

    def kill(self, name: str, pid: int | None = None) -> None:
        """SIGKILL the main process or one of its descendants."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.processes[name].pid, signal.SIGKILL)
        if pid is None:
            self.processes[name].wait(10)

    def kill_whole(self, name: str) -> None:
        """SIGKILL the main process and all its descendants."""
        below = children(self.processes[name].pid)
        self.kill(name)
        for pid in below:
            self.kill(name, pid)

    def kill_one_of(self, chance: random.Random) -> str:
        name = chance.choice(["web", "worker", "worker"])
        process = self.processes[name]
        pid = chance.choice([process.pid, *children(process.pid)])
        command, described = Path(f"/proc/{pid}/cmdline"), "that has just ended"
        with contextlib.suppress(OSError):
            described = command.read_bytes().replace(b"\0", b" ").decode()[-60:]
        self.kill(name, None if pid == process.pid else pid)
        return f"{name} {'main' if pid == process.pid else 'child'} {described}"

    def stop(self, name: str, seconds: float = 60) -> int:
        process = self.processes[name]
        process.terminate()
        return process.wait(seconds)

    def upload(self, content: bytes, name: str = "field.png", timeout: float = 60) -> requests.Response:
        return requests.post(
            f"{self.url}/api/v1/cases/{self.case}/slides",
            files=[("files", (name, content, "image/png"))],
            headers=self.headers,
            timeout=timeout,
        )

    def states(self) -> dict[str, list[Any]]:
        """The state of each slide's current analysis, from the API."""
        answer = requests.get(
            f"{self.url}/api/v1/cases/{self.case}/slides?page_size=200", headers=self.headers, timeout=30
        )
        answer.raise_for_status()
        return {slide["id"]: slide for slide in answer.json()["results"]}

    def rows(self) -> list[dict[str, Any]]:
        """For each slide, from the database: number of current analyses and of patch tables, state and error."""
        return self.ask(
            """
            answer = []
            for slide in Slide.objects.all():
                current = list(slide.analyses.filter(is_current=True))
                answer.append({
                    "slide": str(slide.pk),
                    "current": len(current),
                    "state": current[0].state if current else None,
                    "error": current[0].error if current else "",
                    "tables": PatchTable.objects.filter(analysis__in=current).count(),
                    "file": slide.file.storage.exists(slide.file.name),
                })
            """
        )

    def settled(self) -> bool:
        """Whether no analysis is queued or running."""
        waiting = requests.get(f"{self.url}/api/v1/cases/{self.case}", headers=self.headers, timeout=30).json()
        return waiting["state"] in ("done", "failed")

    def log(self, name: str) -> str:
        return (self.var / f"{name}.log").read_text(errors="replace")


@contextlib.contextmanager
def running(var: Path, **environment: str) -> Iterator[Stack]:
    """A prepared and started application, stopped at the end."""
    started = Stack(var, environment)
    started.prepare()
    try:
        started.start_all()
        yield started
    finally:
        started.stop_all()
