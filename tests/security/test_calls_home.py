"""No process speaks to anybody by itself: what is analysed here, and that it is, stays here."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import brotli
import pytest

from tests.conftest import ROOT

#: Python tells an audit hook of each name looked up and each connection made.
PROBE = """
import sys, threading
asked = []
names = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
sys.addaudithook(lambda event, arguments: asked.append((event, str(arguments))) if event in names else None)
{code}
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(5)
assert "openvino_telemetry.main" not in sys.modules
assert not asked, asked
"""
ENGINE = """
import numpy as np
from inference.engine.grid import PATCH
from inference.engine import runtime, checkpoint
import openvino, inference.engine.graph
openvino.Core()
"""
TRAINING = "import inference, nncf"


class Collector(BaseHTTPRequestHandler):
    """Stands for Sentry: keeps what is sent to it."""

    received: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        unpack = {"gzip": gzip.decompress, "br": brotli.decompress}.get(self.headers.get("Content-Encoding", ""), bytes)
        self.received.append(unpack(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


#: No table is there, so every page that asks the database fails.
FAILING = """
import io, sentry_sdk
from django.test import RequestFactory
from histopath.wsgi import application
requests = RequestFactory(
    headers={"Referer": "http://testserver/cases/?q=TYPED", "Authorization": "Token SENT", "Cookie": "sessionid=COOKIE"}
)
for request in (
    requests.get("/help/?q=TYPED"),
    requests.get("/accounts/password/reset/key/1-MAILED/"),
    requests.post("/accounts/login/", {"login": "TYPED", "password": "SENT"}),
):
    b"".join(application(request.environ, lambda status, headers: None))
sentry_sdk.flush(5)
"""


def test_error_reports_contain_no_user_input(tmp_path: Path) -> None:
    Collector.received = []
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "VIRTUAL_ENV")}
        environment = {
            **clean, "DJANGO_SETTINGS_MODULE": "histopath.settings", "VAR_DIR": str(tmp_path), "HTTPS": "off",
            "STATIC_ROOT": str(tmp_path / "static"), "SECRET_KEY": "only-for-tests-" + "k" * 50,
            "ALLOWED_HOSTS": "testserver", "SENTRY_DSN": f"http://key@127.0.0.1:{server.server_port}/1",
        }  # fmt: skip
        for command in (["manage.py", "collectstatic", "--no-input"], ["-c", FAILING]):
            done = subprocess.run(
                [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr[-2000:]
        server.shutdown()
    said = b"\n".join(Collector.received).decode()
    assert "no such table" in said and "/help/" in said and "/accounts/password/reset/key/" in said
    for secret in ("TYPED", "COOKIE", "MAILED", "SENT"):
        assert secret not in said, secret


@pytest.mark.parametrize("code", [ENGINE, TRAINING], ids=["engine", "quantisation"])
def test_openvino_does_not_report_its_use(code: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)],
        cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "intel").exists(), "no number by which to be known"
