"""Runs every example of docs/api.md against a real server with a real worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cases.api.errors import CODES
from cases.images import synthetic
from tests.conftest import ROOT
from tests.live.conftest import Stack, start, stop
from tests.live.test_api_clients import sign_in

DOCUMENT = ROOT / "docs" / "api.md"
EXAMPLES = re.findall(r"^```(bash|python|javascript)\n(.*?)^```$", DOCUMENT.read_text(), flags=re.M | re.S)


def command(language: str, code: str, folder: Path) -> list[str]:
    if language == "bash":
        return ["bash", "-euo", "pipefail", "-c", code]
    if language == "python":
        return [sys.executable, "-c", code]
    if not shutil.which("node"):
        pytest.skip("no node to run JavaScript")
    (folder / "example.mjs").write_text(code)
    return ["node", "--no-warnings", "example.mjs"]


@pytest.fixture(scope="module")
def ungated(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Iterator[Stack]:
    """With a model without a domain check, so that synthetic images get a map."""
    running = start(tmp_path_factory.mktemp("examples"), random_checkpoint.parent)
    yield running
    stop(running)


@pytest.fixture(scope="module")
def token(ungated: Stack) -> str:
    return sign_in(ungated)


@pytest.mark.live
@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(EXAMPLES)])
def test_example(ungated: Stack, token: str, tmp_path: Path, language: str, code: str) -> None:
    for name, image in zip(("field.png", "second.png"), synthetic.uploads(), strict=False):
        (tmp_path / name).write_bytes(image.read())
    (tmp_path / "notes.txt").write_text("no image")
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HISTOPATH_URL": ungated.url,
        "HISTOPATH_TOKEN": token,
        "HISTOPATH_USER": ungated.username,
        "HISTOPATH_PASSWORD": ungated.password,
    }
    done = subprocess.run(
        command(language, code, tmp_path), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_there_are_examples_in_each_language() -> None:
    assert {kind for kind, _ in EXAMPLES} == {"bash", "python", "javascript"}


def test_the_table_of_errors_is_complete() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.+) \|$", DOCUMENT.read_text(), flags=re.M)
    assert {code: (int(status), meaning) for code, status, meaning in rows} == CODES
