"""What a speed test leaves out: how long the start takes, what a thousand slides do to memory, the largest image."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cases.benchmark.stack import Stack
from cases.images import synthetic
from inference.engine.grid import Grid
from inference.engine.image import encode_png
from inference.models import Analysis

#: Fields sent in one request, and how many may wait before the next.
BATCH = 20
#: What the soak and the largest image need beyond the ordinary limits, as environment of the processes.
ENVIRONMENT = {"UPLOAD_MAX_BYTES": str(512 * 2**20), "API_RATE_PREDICT": "100000/min", "MAX_PENDING_PER_USER": "5000"}


def descendants(pid: int) -> list[int]:
    """Processes below this one, all generations. Linux alone tells; elsewhere none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [each for child in children for each in (int(child), *descendants(int(child)))]


def resident(pid: int) -> float:
    """Resident memory in MB of the largest among a process and its descendants."""
    return max(_status(each, "VmRSS") for each in (pid, *descendants(pid)))


def peak(pid: int) -> float:
    """As :func:`resident`, the most that it ever was."""
    return max(_status(each, "VmHWM") for each in (pid, *descendants(pid)))


def _status(pid: int, key: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), 0.0)


def start_times(port: int, headers: dict[str, str], **environment: str) -> dict[str, float]:
    """Seconds from the start of the web server to its first page, and from the start of a worker to a loaded model.

    A worker loads the model before it claims anything, so the moment it claims a waiting analysis is the moment it
    was ready.
    """
    stack = Stack(port, **environment)
    try:
        began = time.perf_counter()
        stack.start("web server")
        while not _answers(f"{stack.url}/accounts/login/"):
            time.sleep(0.02)
        first_page = time.perf_counter() - began
        # A prediction is refused while no worker runs; a case takes images at any time.
        case = _post(f"{stack.url}/api/v1/cases", headers, json={"title": "Start"}).json()["id"]
        _post(f"{stack.url}/api/v1/cases/{case}/slides", headers, files=next(_batches(1)))
        began_at = time.time()
        stack.start("worker")
        waiting = Analysis.objects.order_by("queued_at")
        while (started := waiting.values_list("started_at", flat=True)[0]) is None:
            stack.check_alive()
            time.sleep(0.02)
        ready = started.timestamp() - began_at
    finally:
        stack.stop()
    return {"first_page_seconds": first_page, "worker_ready_seconds": ready}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def soak(stack: Stack, headers: dict[str, str], count: int) -> list[dict[str, float]]:
    """Send ``count`` different fields and say after every tenth of them what web server and worker hold, in MB."""
    samples = []
    for number, files in enumerate(_batches(count), start=1):
        _send(stack, headers, files)
        while Analysis.objects.filter(state__in=("queued", "running")).count() > BATCH:
            time.sleep(0.05)
        done = number * BATCH
        if done % max(BATCH, count // 10) < BATCH or done >= count:
            _until_done()
            memory = {name: resident(process.pid) for name, process in stack.processes.items()}
            samples.append({"slides": min(done, count), **memory})
    return samples


def _batches(count: int) -> Iterator[list[tuple[str, tuple[str, bytes, str]]]]:
    """Fields of which none equals another: a few drawn ones, each moved on by a column at a time."""
    drawn = [np.asarray(synthetic.draw(seed, 420)) for seed in range(900, 905)]
    for first in range(0, count, BATCH):
        files = []
        for number in range(first, min(first + BATCH, count)):
            rgb = np.roll(drawn[number % len(drawn)], number // len(drawn), axis=1)
            files.append(("files", (f"soak-{number:05}.png", encode_png(rgb), "image/png")))
        yield files


def at_the_cap(stack: Stack, headers: dict[str, str], pixels: int) -> dict[str, float]:
    """One square JPEG as large as is accepted: seconds to take it in and to analyse it, and the memory in MB."""
    side = int(pixels**0.5)
    field = np.asarray(synthetic.draw(7, 420))
    repeats = (-(-side // field.shape[0]), -(-side // field.shape[1]), 1)
    out = BytesIO()
    Image.fromarray(np.tile(field, repeats)[:side, :side]).save(out, "JPEG", quality=85)
    _until_done()
    before = {name: resident(process.pid) for name, process in stack.processes.items()}
    start = time.perf_counter()
    _send(stack, headers, [("files", ("cap.jpg", out.getvalue(), "image/jpeg"))])
    accepted = time.perf_counter() - start
    _until_done()
    last = Analysis.objects.order_by("-queued_at")[0]
    if last.started_at is None or last.finished_at is None or last.state != "done":
        raise RuntimeError(f"The largest image ended as {last.state}: {last.error}")
    return {
        "megapixels": side * side / 1e6,
        "patches": len(Grid(side, side)),
        "accepted_seconds": accepted,
        "analysed_seconds": (last.finished_at - last.started_at).total_seconds(),
        "decoded_mb": 3 * side * side / 2**20,
        **{f"{name}_before_mb": size for name, size in before.items()},
        **{f"{name}_peak_mb": peak(process.pid) for name, process in stack.processes.items()},
    }


def _send(stack: Stack, headers: dict[str, str], files: list[tuple[str, tuple[str, bytes, str]]]) -> None:
    _post(f"{stack.url}/predict/folder", {**headers, "Prefer": "respond-async"}, files=files)


def _post(url: str, headers: dict[str, str], **content: Any) -> Any:
    import requests

    answer = requests.post(url, headers=headers, timeout=600, **content)
    answer.raise_for_status()
    return answer


def _until_done() -> None:
    while Analysis.objects.filter(state__in=("queued", "running")).exists():
        time.sleep(0.05)


def soak_lines(samples: list[dict[str, float]]) -> list[str]:
    """The samples of :func:`soak` in words, for the table."""
    names = [name for name in samples[0] if name != "slides"]
    told = (f"{sample['slides']:.0f}: " + ", ".join(f"{sample[name]:.0f}" for name in names) for sample in samples)
    return [f"Memory ({', '.join(names)}) in MB after slides: " + "; ".join(told) + "."]


def largest_lines(found: dict[str, float]) -> list[str]:
    """What :func:`at_the_cap` found in words, for the table."""
    return [
        (
            f"Image of {found['megapixels']:.0f} megapixels ({found['patches']:.0f} patches): accepted after "
            f"{found['accepted_seconds']:.1f} s, analysed in {found['analysed_seconds']:.1f} s; worker "
            f"{found['worker_before_mb']:.0f} MB before, at most {found['worker_peak_mb']:.0f} MB, of which "
            f"{found['decoded_mb']:.0f} MB are the decoded image."
        )
    ]
