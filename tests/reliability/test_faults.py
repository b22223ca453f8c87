"""Failures of disks and model files: clear errors, no effect on other work, and recovery without a restart."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from .conftest import Start
from .stack import Stack, children, running, until

pytestmark = [pytest.mark.slow, pytest.mark.live]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB, which only root can create."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=False)


def fill(folder: Path, leave: int) -> Path:
    """Fill the file system except for this many bytes."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free - leave
    if free > 0:
        with ballast.open("wb") as file:
            file.write(bytes(free))
    return ballast


def test_a_full_disk(small_disk: Path, random_checkpoint: Path, images: list[bytes]) -> None:
    with running(small_disk, MODEL_DIR=str(random_checkpoint.parent), MIN_FREE_DISK=str(8 * 2**20)) as stack:
        assert stack.upload(images[0]).status_code == 201
        until(120, stack.settled, "settled")

        ballast = fill(small_disk, 4 * 2**20)
        refused = stack.upload(images[1])
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
        assert requests.get(f"{stack.url}/health", timeout=10).status_code == 200
        assert len(stack.states()) == 1, "what is there can still be read"

        fill(small_disk, 0)
        answer = requests.get(f"{stack.url}/api/v1/cases/{stack.case}", headers=stack.headers, timeout=30)
        assert answer.status_code in (200, 503), answer.text

        ballast.unlink()
        assert until(30, lambda: stack.upload(images[1]).status_code == 201, "accepted again without a restart")
        until(120, stack.settled, "settled")
        rows = stack.rows()
        assert {row["state"] for row in rows} == {"done"} and all(row["file"] for row in rows)
        assert not list((small_disk / "incoming").iterdir())


def test_a_file_store_on_a_separate_full_disk(small_disk: Path, start: Start, images: list[bytes]) -> None:
    """A file that is truncated because the disk is full is removed."""
    media = small_disk / "media"
    media.mkdir()
    with start(MEDIA_ROOT=str(media), MIN_FREE_DISK="0") as stack:
        assert stack.upload(images[0]).status_code == 201
        until(120, stack.settled, "settled")
        kept = sorted(path for path in media.rglob("*") if path.is_file())
        ballast = fill(small_disk, 64 * 1024)
        for image in images[1:4]:
            refused = stack.upload(image)
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
        assert sorted(path for path in media.rglob("*") if path.is_file()) == kept
        ballast.unlink()
        assert stack.upload(images[1]).status_code == 201
        until(120, stack.settled, "settled")


def test_a_store_that_is_read_only(start: Start, tmp_path: Path, images: list[bytes]) -> None:
    media = tmp_path / "store"
    media.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", media], check=False).returncode:
        pytest.skip("mounting takes root")
    try:
        with start(MEDIA_ROOT=str(media)) as stack:
            stack.upload(images[0])
            until(120, stack.settled, "settled")
            subprocess.run(["mount", "-o", "remount,ro", media], check=True)
            refused = stack.upload(images[1])
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
            assert len(stack.states()) == 1
            slide = next(iter(stack.states()))
            image = requests.get(f"{stack.url}/api/v1/slides/{slide}/image", headers=stack.headers, timeout=30)
            assert image.status_code == 200, "what is there can still be read"
            subprocess.run(["mount", "-o", "remount,rw", media], check=True)
            assert stack.upload(images[1]).status_code == 201
            until(120, stack.settled, "settled")
            assert {row["state"] for row in stack.rows()} == {"done"}
    finally:
        subprocess.run(["umount", "--lazy", media], check=False)


def test_the_limit_on_open_files_is_raised_for_folders(start: Start, images: list[bytes]) -> None:
    """Each image of a large upload needs a temporary file, so the server raises its limit on open files."""
    with start() as stack:
        stack.stop("web")
        stack.prefix = ("prlimit", f"--nofile={len(images)}:4096")
        stack.start("web")
        stack.wait_ready()
        limits = Path(f"/proc/{children(stack.processes['web'].pid)[0]}/limits").read_text()
        assert re.search(r"Max open files +4096 +4096", limits)
        files = [("files", (f"{number}.png", content, "image/png")) for number, content in enumerate(images)]
        answer = requests.post(
            f"{stack.url}/api/v1/cases/{stack.case}/slides", files=files, headers=stack.headers, timeout=120
        )
        assert answer.status_code == 201, answer.text
        assert not answer.json()["errors"] and len(stack.states()) == len(images)


def restart_workers(stack: Stack) -> None:
    """Restart the worker, so that it reads the model file again."""
    before = children(stack.processes["worker"].pid)
    for pid in before[1:]:
        stack.kill("worker", pid)
    time.sleep(3)


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_missing_or_damaged_model_file(
    damage: str, tmp_path: Path, random_checkpoint: Path, images: list[bytes]
) -> None:
    var, models = tmp_path / "var", tmp_path / "models"
    var.mkdir()
    models.mkdir()
    file = models / "random.safetensors"
    shutil.copyfile(random_checkpoint, file)
    with running(var, MODEL_DIR=str(models)) as stack:
        if damage == "missing":
            file.unlink()
        else:
            with file.open("r+b") as opened:
                opened.seek(100_000)
                opened.write(b"damage")
        restart_workers(stack)
        health = requests.get(f"{stack.url}/health", timeout=20)
        assert (health.status_code, health.json()["checks"]["model"]) == (503, False)
        assert stack.upload(images[0]).status_code == 201, "the slide is kept and can be analysed again"
        until(120, stack.settled, "ended")
        (row,) = stack.rows()
        assert row["state"] == "failed" and "model" in row["error"].lower(), row

        shutil.copyfile(random_checkpoint, file)
        until(
            30, lambda: requests.get(f"{stack.url}/health", timeout=20).status_code == 200, "healthy without a restart"
        )
        again = f"{stack.url}/api/v1/cases/{stack.case}/analyses"
        assert requests.post(again, headers=stack.headers, json={}, timeout=30).status_code == 202
        until(120, stack.settled, "ended")
        assert [row["state"] for row in stack.rows()] == ["done"]
