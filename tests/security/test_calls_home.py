"""No process speaks to anybody by itself: what is analysed here, and that it is, stays here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: Python tells an audit hook of each name looked up and each connection made.
PROBE = """
import sys, time
asked = []
names = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
sys.addaudithook(lambda event, arguments: asked.append((event, str(arguments))) if event in names else None)
{code}
time.sleep(0.5)
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


@pytest.mark.parametrize("code", [ENGINE, TRAINING], ids=["engine", "quantisation"])
def test_openvino_does_not_report_its_use(code: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)],
        cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "intel").exists(), "no number by which to be known"
