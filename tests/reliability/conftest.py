"""PostgreSQL and Redis servers for the tests, on free ports and in temporary folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tests.live.conftest import free_port

from .stack import Stack, running, until

Start = Callable[..., AbstractContextManager[Stack]]
S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}


class Postgres:
    """A PostgreSQL server. It does not run as root, so as root another user starts it."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self.bin = found[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="histopath-pg-"))
        self.port = free_port()
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        self._ask("postgres", "CREATE ROLE app LOGIN CREATEDB")

    def _ask(self, database: str, statement: str) -> None:
        self._run(
            "psql", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1",
            "-c", statement,
        )  # fmt: skip

    def administer(self, url: str, statement: str) -> None:
        """Run a statement as administrator in a database of :meth:`database`. Raises if it fails."""
        self._ask(url.rpartition("/")[2], statement)

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._as, str(self.bin / program), *map(str, arguments)]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")

    def kill(self) -> None:
        """Kill all server processes at once, as in a crash."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def database(self) -> str:
        """An empty database of a role without other permissions, which also contains objects of the administrator."""
        name = f"d{time.monotonic_ns()}"
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", "-O", "app", name)
        self._ask(name, "CREATE EXTENSION pg_stat_statements")
        self._ask(name, "COMMENT ON SCHEMA public IS 'of the administrator'")
        self._ask(name, "CREATE SCHEMA monitoring CREATE TABLE seen (at timestamp)")
        return f"postgres://app@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts and restarts Redis on one port; ``url`` is its address."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    port = free_port()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    start.url = f"redis://127.0.0.1:{port}/0"  # type: ignore[attr-defined]
    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """The URL of an S3 server without buckets."""
    port = free_port()
    with (tmp_path / "s3.log").open("wb") as log:
        environment = {**os.environ, **S3_KEYS}
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log, env=environment
        )
    url = f"http://127.0.0.1:{port}"
    until(60, lambda: requests.get(url, timeout=2).status_code < 500, "the S3 server answers")
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def start(tmp_path: Path, random_checkpoint: Path) -> Start:
    """Run the application on SQLite, or on the services given as arguments."""
    var = tmp_path / "var"
    var.mkdir()
    return partial(running, var, MODEL_DIR=str(random_checkpoint.parent))


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Small fields of noise in H&E colours, all different."""
    found = []
    for number in range(40):
        noise = np.random.default_rng(number).normal(0, 30, (260, 300, 3))
        pixels = np.clip(np.array([200, 140, 190]) + noise, 0, 255).astype(np.uint8)
        out = BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        found.append(out.getvalue())
    return found
