"""Start-up time, memory over many slides, and the largest accepted image."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from cases.benchmark.stack import Stack, descendants
from cases.images import synthetic
from inference.cli.client import Client, File
from inference.engine.grid import Grid
from inference.engine.image import encode_png
from inference.models import Analysis

#: Fields in one request, and how many may be queued before the next is sent.
BATCH = 20
#: Higher limits for the soak and the largest image.
ENVIRONMENT = {"UPLOAD_MAX_BYTES": str(512 * 2**20), "API_RATE_PREDICT": "100000/min", "MAX_PENDING_PER_USER": "5000"}


def resident(pid: int) -> float:
    """Resident memory in MB of the largest among a process and its descendants."""
    return max(_status(each, "VmRSS") for each in (pid, *descendants(pid)))


def peak(pid: int) -> float:
    """Peak resident memory in MB of the largest among a process and its descendants."""
    return max(_status(each, "VmHWM") for each in (pid, *descendants(pid)))


def _status(pid: int, key: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), 0.0)


def start_times(port: int, token: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds from the start of the web server to its first page, and from the start of a worker to a loaded model.

    A worker loads the model before it claims an analysis, so its first claim shows when it was ready.
    """
    stack = Stack(port, environment)
    try:
        began = time.perf_counter()
        stack.start("web")
        while not _answers(f"{stack.url}/accounts/login/"):
            stack.check_alive()
            time.sleep(0.02)
        first_page = time.perf_counter() - began
        submit(Client(stack.url, token), next(_batches(1)))
        began_at = time.time()
        stack.start("worker")
        waiting = Analysis.objects.order_by("queued_at")
        while (started := waiting.values_list("started_at", flat=True)[0]) is None:
            stack.check_alive()
            time.sleep(0.02)
        ready = started.timestamp() - began_at
    finally:
        stack.stop_all()
    return {"first_page_seconds": first_page, "worker_ready_seconds": ready}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200)
    except OSError:
        return False


def submit(client: Client, files: Sequence[File]) -> None:
    """Add images to a new case. Unlike a prediction call, this is accepted while no worker runs."""
    answer = client.add_slides(client.create_case("Benchmark")["id"], files)
    if answer["errors"]:
        raise RuntimeError(f"Images were not accepted: {answer['errors']}")


def soak(stack: Stack, token: str, count: int) -> list[dict[str, float]]:
    """Send ``count`` different fields; after every tenth of them, record the memory of web server and worker in MB."""
    client, samples = Client(stack.url, token), []
    for number, files in enumerate(_batches(count), start=1):
        submit(client, files)
        while Analysis.objects.filter(state__in=("queued", "running")).count() > BATCH:
            time.sleep(0.05)
        done = number * BATCH
        if done % max(BATCH, count // 10) < BATCH or done >= count:
            _until_done()
            memory = {name: resident(process.pid) for name, process in stack.processes.items()}
            samples.append({"slides": min(done, count), **memory})
    return samples


def _batches(count: int) -> Iterator[list[File]]:
    """PNG files that all differ: a few drawn fields, each shifted by one column at a time."""
    drawn = [np.asarray(synthetic.draw(seed, 420)) for seed in range(900, 905)]
    for first in range(0, count, BATCH):
        files: list[File] = []
        for number in range(first, min(first + BATCH, count)):
            rgb = np.roll(drawn[number % len(drawn)], number // len(drawn), axis=1)
            files.append((f"soak-{number:05}.png", encode_png(rgb)))
        yield files


def largest_image(stack: Stack, token: str, pixels: int) -> dict[str, float]:
    """One square JPEG at the pixel limit: seconds until it is accepted and analysed, and memory in MB."""
    side = int(pixels**0.5)
    field = np.asarray(synthetic.draw(7, 420))
    repeats = (-(-side // field.shape[0]), -(-side // field.shape[1]), 1)
    out = BytesIO()
    Image.fromarray(np.tile(field, repeats)[:side, :side]).save(out, "JPEG", quality=85)
    _until_done()
    before = {name: resident(process.pid) for name, process in stack.processes.items()}
    start = time.perf_counter()
    submit(Client(stack.url, token), [("largest.jpg", out.getvalue())])
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


def _until_done() -> None:
    while Analysis.objects.filter(state__in=("queued", "running")).exists():
        time.sleep(0.05)


def soak_lines(samples: list[dict[str, float]]) -> list[str]:
    """The samples of :func:`soak` as a line below the table."""
    names = [name for name in samples[0] if name != "slides"]
    figures = (f"{sample['slides']:.0f}: " + ", ".join(f"{sample[name]:.0f}" for name in names) for sample in samples)
    return [f"Memory ({', '.join(names)}) in MB after slides: " + "; ".join(figures) + "."]


def largest_lines(found: dict[str, float]) -> list[str]:
    """The result of :func:`largest_image` as a line below the table."""
    return [
        (
            f"Image of {found['megapixels']:.0f} megapixels ({found['patches']:.0f} patches): accepted after "
            f"{found['accepted_seconds']:.1f} s, analysed in {found['analysed_seconds']:.1f} s; worker "
            f"{found['worker_before_mb']:.0f} MB before, at most {found['worker_peak_mb']:.0f} MB, of which "
            f"{found['decoded_mb']:.0f} MB are the decoded image."
        )
    ]
