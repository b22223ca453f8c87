"""The shipped nginx configuration with a real server; only paths and ports differ."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT
from tests.live.conftest import free_port

from .conftest import Start
from .stack import Stack, children, field, until

pytestmark = [pytest.mark.slow, pytest.mark.live]


class Nginx:
    """nginx in front of the application, in its own folder."""

    def __init__(self, program: str, stack: Stack, folder: Path) -> None:
        self.folder, self.stack, self.port = folder, stack, free_port()
        text = (ROOT / "docs/operations/nginx.conf").read_text()
        for shipped, here in (
            ("/tmp/", f"{folder}/"),
            ("/dev/stdout", f"{folder}/access.log"),
            ("/dev/stderr", f"{folder}/error.log"),
            ("web:8000", f"127.0.0.1:{stack.port}"),
            ("listen 8080", f"listen 127.0.0.1:{self.port}"),
            ("/data/media/", f"{stack.var}/media/"),
            ("worker_processes auto;", "worker_processes 1;" + ("user root;" if os.geteuid() == 0 else "")),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen([program, "-c", folder / "nginx.conf", "-g", "daemon off;"])
        until(20, lambda: requests.get(f"{self.url}/health/live", timeout=2).status_code == 200, "nginx answers")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def body_bytes(self) -> int:
        """Bytes of request bodies in its unlinked temporary files."""
        total = 0
        for pid in children(self.process.pid):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                # Files may be closed during the loop.
                with contextlib.suppress(FileNotFoundError):
                    if str(link.readlink()).startswith(f"{self.folder}/body"):
                        total += link.stat().st_size
        return total


@pytest.fixture
def nginx(start: Start) -> Iterator[Nginx]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    folder = Path(tempfile.mkdtemp(prefix="histopath-nginx-"))
    with start(BEHIND_PROXY="on", NUM_PROXIES="1", ACCEL_PREFIX="/protected") as stack:
        stack.manage("collectstatic", "--no-input")
        stack.stop("web")
        stack.start("web")
        stack.wait_ready()
        server = Nginx(program, stack, folder)
        yield server
        server.process.terminate()
        server.process.wait(20)
    shutil.rmtree(folder)


def large_upload(nginx: Nginx, headers: dict[str, str]) -> tuple[int, int]:
    """Send 30 MB that are not an image to the prediction call; returns status and the most that nginx buffered."""
    head = b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = head + bytes(30 * 2**20) + b"\r\n--cut--\r\n"
    held, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            held.append(nginx.body_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        kind = "multipart/form-data; boundary=cut"
        answer = requests.post(
            f"{nginx.url}/predict/folder", data=body, headers={**headers, "Content-Type": kind}, timeout=60
        )
    finally:
        is_over.set()
        watcher.join()
    return answer.status_code, max(held)


def test_pages_uploads_and_files_work_through_nginx(nginx: Nginx) -> None:
    headers = nginx.stack.headers
    address = f"{nginx.url}/api/v1/cases/{nginx.stack.case}/slides"
    assert requests.post(address, files=[field(1)], headers=headers, timeout=60).status_code == 201
    (slide,) = nginx.stack.states()
    browser = requests.Session()
    case = f"{nginx.url}/cases/{nginx.stack.case}/"
    sign_in = {"login": "alice", "password": "correct horse battery staple"}
    for page, action, sent, files in (
        (f"{nginx.url}/accounts/login/", f"{nginx.url}/accounts/login/", sign_in, None),
        (case, f"{case}slides/", {}, [("images", field(2)[1])]),
    ):
        token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', browser.get(page, timeout=30).text)
        assert token
        answer = browser.post(action, {**sent, "csrfmiddlewaretoken": token[1]}, files=files, timeout=30)
        assert answer.status_code == 200, answer.text
    assert len(nginx.stack.states()) == 2
    image = requests.get(f"{nginx.url}/api/v1/slides/{slide}/image", headers=headers, timeout=30)
    assert image.status_code == 200 and image.content.startswith(b"\x89PNG")
    assert image.headers["Cache-Control"] == "private, no-store" and "X-Accel-Redirect" not in image.headers
    assert image.headers["X-Content-Type-Options"] == "nosniff" and image.headers["X-Request-ID"]
    stored = next((nginx.stack.var / "media").rglob("*.png")).relative_to(nginx.stack.var / "media")
    for inside in (f"protected/{stored}", "signed-in"):
        assert requests.get(f"{nginx.url}/{inside}", timeout=10).status_code == 404
    assert requests.get(f"{nginx.url}/cases/?q=secret", headers=headers, timeout=10, allow_redirects=False).ok
    until(10, lambda: "/cases/" in (nginx.folder / "access.log").read_text(), "the log is written")
    assert "secret" not in (nginx.folder / "access.log").read_text()


def test_nginx_discards_bodies_of_clients_that_are_not_signed_in(nginx: Nginx) -> None:
    status, held = large_upload(nginx, nginx.stack.headers)
    assert status == 400 and held > 5 * 2**20, "uploads of signed-in users are buffered completely"
    status, held = large_upload(nginx, {})
    assert status == 401 and held == 0

    address = f"{nginx.url}/api/v1/cases/{nginx.stack.case}/slides"
    unknown = {"Authorization": "Token " + "0" * 64}
    for headers, code in (({}, "not_authenticated"), (unknown, "token_invalid")):
        refused = requests.post(address, files=[field(1)], headers=headers, timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (401, code)
    page = requests.get(f"{nginx.url}/cases/new/", timeout=30, allow_redirects=False)
    assert page.status_code == 302 and page.headers["Location"].startswith("/accounts/login/")
    assert requests.post(f"{nginx.url}/cases/new/", files=[field(1)], timeout=30).status_code == 401
    assert requests.post(f"{nginx.url}/accounts/login/", data=bytes(4 * 2**20), timeout=60).status_code == 413
