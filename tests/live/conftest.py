"""The whole application: ``manage.py demo`` with its web server and worker process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.conftest import BUNDLED, ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """A running application: its address and the demo account."""

    url: str
    username: str
    password: str
    var: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def model_dir(random_checkpoint: Path) -> Path:
    """The bundled weights, or random ones if there are none."""
    return BUNDLED[0].parent if BUNDLED else random_checkpoint.parent


def start(var: Path, model_dir: Path, *arguments: str, **environment: str) -> Stack:
    """Start the demo command and wait until it has printed its address and password."""
    port = free_port()
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "histopath.settings",
        "SECRET_KEY": "only-for-tests-" + "y" * 40,
        "DEBUG": "off",
        "HTTPS": "off",
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "VAR_DIR": str(var),
        "STATIC_ROOT": str(var / "static"),
        "MODEL_DIR": str(model_dir),
        "DATABASE_URL": f"sqlite:///{var / 'live.sqlite3'}",
        "ANALYSIS_LEASE": "15",
        **environment,
    }
    log = (var / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-u", "manage.py", "demo", "--port", str(port), *arguments],
        cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    log.close()
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        output = (var / "log").read_text()
        if found := re.search(r"running at +(\S+)\s+sign in as +(\S+)\s+password +(\S+)", output):
            return Stack(f"http://127.0.0.1:{port}", found[2], found[3], var, process)
        time.sleep(0.1)
    process.kill()
    process.wait()
    pytest.fail(f"the application did not start:\n{(var / 'log').read_text()}")


def stop(stack: Stack) -> str:
    """Send Ctrl-C and return the output."""
    if stack.process.poll() is None:
        os.kill(stack.process.pid, signal.SIGINT)
        stack.process.wait(60)
    return (stack.var / "log").read_text()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Stack]:
    """One running application for all live tests."""
    running = start(tmp_path_factory.mktemp("live"), model_dir)
    yield running
    stop(running)


class Browser(requests.Session):
    """A browser without scripts: follows links and posts forms with their CSRF token."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.base = stack.url

    def open(self, path: str) -> requests.Response:
        answer = self.get(self.base + path, timeout=60)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:2000])
        return answer

    def submit(self, path: str, data: dict[str, str], files: list | None = None) -> requests.Response:
        """Post a form of the last opened page; the response after redirects must be a page."""
        token = self.cookies.get("csrftoken")
        answer = self.post(
            self.base + path,
            data={**data, "csrfmiddlewaretoken": token},
            files=files,
            headers={"Referer": self.base + path},
            timeout=120,
        )
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:2000])
        return answer

    def sign_in(self, username: str, password: str) -> None:
        self.open("/accounts/login/")
        answer = self.submit("/accounts/login/", {"login": username, "password": password})
        assert "/accounts/login" not in answer.url, "sign-in failed"


@pytest.fixture
def browser(stack: Stack) -> Iterator[Browser]:
    """Signed in as the demo account."""
    with Browser(stack) as session:
        session.sign_in(stack.username, stack.password)
        yield session
