"""manage.py benchmark: speed and memory of the application, compared with the method that it replaces."""

from __future__ import annotations

import json
import os
import platform
import signal
import tempfile
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.test import Client
from django.utils import timezone

from cases.accounts import tokens
from cases.benchmark import endurance
from cases.benchmark.endurance import resident
from cases.benchmark.idle import share_of_a_core
from cases.benchmark.peak import best, measure, operations_per_patch
from cases.benchmark.stack import Stack, descendants
from cases.images import synthetic
from cases.models import Case, User
from inference.cli.client import Client as ApiClient
from inference.engine.checkpoint import CheckpointError
from inference.engine.grid import PATCH, Grid
from inference.engine.runtime import Device, Runtime, available_cores, load
from inference.models import Analysis
from inference.registry import active_model

FIELD = Grid(*synthetic.SIZE)
PATCHES = 48
#: Seconds over which the processor time of the idle application is measured.
IDLE_SECONDS = 30


def _infer_all(runtime: Runtime, parts: list[Any]) -> None:
    with ThreadPoolExecutor(runtime.streams) as pool:
        list(pool.map(runtime.infer, parts))


class Command(BaseCommand):
    help = "Measure speed and memory of the application, and compare it with the method that it replaces."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
        parser.add_argument("--images", type=int, default=100, help="fields in the folder (default 100)")
        parser.add_argument("--cases", type=int, default=10_000, help="cases in the history (default 10000)")
        parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")
        parser.add_argument("--soak", type=int, default=0, metavar="N", help="also record memory over N slides")
        parser.add_argument("--largest", action="store_true", help="also analyse an image at the pixel limit")
        parser.add_argument("--port", type=int, default=8900, help="port of the web server (default 8900)")

    def handle(self, *args: Any, **options: Any) -> None:
        from cases.benchmark import baseline

        with tempfile.TemporaryDirectory(prefix="histopath-benchmark-") as folder:
            self._use_temporary_storage(Path(folder))
            fields = self._draw(Path(folder), 2 * options["images"])
            model = Path(active_model().path)
            some = fields[: max(5, options["images"] // 10)]
            before = baseline.measure(model, available_cores(), some, PATCHES)
            results: dict[str, Any] = {"machine": machine()}
            results["network"] = self._network(before["patches_per_second"], model)
            results["single"] = {"baseline_seconds": before["one_image_seconds"]}
            per_minute = 60 * len(some) / before["all_images_seconds"]
            results["folder"] = {"images": options["images"], "baseline_images_per_minute": per_minute}
            places = {"VAR_DIR": folder, "MEDIA_ROOT": f"{folder}/media", "Q_WORKERS": str(options["workers"])}
            user = User.objects.create_user("benchmark", password=None)
            token = tokens.create(user, "benchmark")[1]
            results["start"] = endurance.start_times(options["port"], token, places)
            with Stack(options["port"], {**places, **endurance.ENVIRONMENT}) as stack:
                self._application(stack, ApiClient(stack.url, token), fields, results)
                if options["soak"]:
                    results["soak"] = endurance.soak(stack, token, options["soak"])
                if options["largest"]:
                    results["largest"] = endurance.largest_image(stack, token, settings.UPLOAD_MAX_PIXELS)
            results["history"] = self._history(options["cases"])
        self.stdout.write(json.dumps(results, indent=2) if options["json"] else table(results))

    def _use_temporary_storage(self, folder: Path) -> None:
        """Use an empty SQLite database and file store, so that the user's data is not touched."""
        connection.close()
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "histopath.sqlite3")}
        if connection.vendor != "sqlite":
            raise CommandError("The benchmark uses SQLite: unset DATABASE_URL.", returncode=2)
        connection.settings_dict.update(database)
        settings.MEDIA_ROOT = folder / "media"
        os.environ.pop("DATABASE_URL", None)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)

    def _draw(self, folder: Path, count: int) -> list[Path]:
        """Draw synthetic fields of 700×460 pixels. All differ, because a known file is answered from the database."""
        paths = []
        for seed in range(count):
            paths.append(folder / f"field-{seed:03}.png")
            synthetic.draw(seed + 100, 420).save(paths[-1])
        return paths

    def _network(self, before: float, model: Path) -> dict[str, Any]:
        """Patches per second of the network alone: the baseline, each runtime, and the one that this machine uses."""
        pixels = np.random.default_rng(0).integers(0, 256, (PATCHES, PATCH, PATCH, 3), dtype=np.uint8)
        speeds = {"baseline": before}
        devices: tuple[Device, ...] = ("torch", "torch-bf16", "fp32", "bf16", "auto")
        for device in devices:
            try:
                runtime = load(model, device)
            except CheckpointError:
                continue  # this processor has no bf16
            size = runtime.batch_size
            parts = [pixels[at : at + size] for at in range(0, PATCHES - size + 1, size)]
            done = len(parts) * size
            speeds[runtime.name] = done / best(partial(_infer_all, runtime, parts))
            chosen = runtime.name
        peak = measure(available_cores(), int8=chosen.endswith("int8"))
        return {
            "patches_per_second": speeds,
            "runtime": chosen,
            "ratio": speeds[chosen] / speeds["baseline"],
            "share_of_peak": speeds[chosen] * operations_per_patch(model) / peak,
            "peak_gigaops": peak / 1e9,
        }

    def _application(self, stack: Stack, client: ApiClient, fields: list[Path], results: dict[str, Any]) -> None:
        """Single image and folder through the API, from the request to the result."""
        before = Analysis.objects.count()
        extra = [synthetic.draw(seed, 420) for seed in range(4)]
        seconds = []
        for number, image in enumerate(extra):
            path = fields[0].with_name(f"single-{number}.png")
            image.save(path)
            start = time.perf_counter()
            *_, last = client.stream(path)
            if last["type"] != "complete":
                raise CommandError(f"A single image was not analysed: {last}")
            seconds.append(time.perf_counter() - start)
        single = results["single"]
        single["request_seconds"] = median(seconds[1:])
        done = [
            (a.queued_at, a.started_at, a.finished_at)
            for a in Analysis.objects.order_by("queued_at")[before + 1 :]
            if a.started_at and a.finished_at
        ]
        single["seconds"] = median((finished - queued).total_seconds() for queued, _, finished in done)
        single["ratio"] = single["baseline_seconds"] / single["seconds"]
        single["pick_up_seconds"] = median((started - queued).total_seconds() for queued, started, _ in done)

        folder = results["folder"]
        half = len(fields) // 2
        network = half * len(FIELD) / results["network"]["patches_per_second"][results["network"]["runtime"]]
        folder["with_upload_images_per_minute"] = (
            60 * half / self._folder(stack, client, fields[:half], is_upload_counted=True)
        )
        # The baseline reads its images from disk, so the comparison leaves the upload out.
        taken = self._folder(stack, client, fields[half:], is_upload_counted=False)
        folder["images_per_minute"] = 60 * half / taken
        folder["ratio"] = folder["images_per_minute"] / folder["baseline_images_per_minute"]
        folder["overhead_ms_an_image"] = 1000 * (taken - network) / half
        results["memory_mb"] = {name: resident(process.pid) for name, process in stack.processes.items()}
        results["idle"] = share_of_a_core([process.pid for process in stack.processes.values()], IDLE_SECONDS)

    def _folder(self, stack: Stack, client: ApiClient, fields: list[Path], is_upload_counted: bool) -> float:
        """Seconds until all fields are analysed. Without the upload, the workers pause until it is complete."""
        workers = [stack.processes["worker"].pid, *descendants(stack.processes["worker"].pid)]
        paused = [] if is_upload_counted else workers
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        start = time.perf_counter()
        try:
            endurance.submit(client, fields)
        finally:
            if paused:
                start = time.perf_counter()
            for pid in paused:
                os.kill(pid, signal.SIGCONT)
        while Analysis.objects.filter(state__in=("queued", "running")).exists():
            time.sleep(0.1)
        return time.perf_counter() - start

    def _history(self, count: int) -> dict[str, Any]:
        """The history page of a user with many cases."""
        user = User.objects.create_user("archivist", password=None)
        now = timezone.now()
        Case.objects.bulk_create(
            (Case(owner=user, title=f"Case {n}", created_at=now - timedelta(minutes=n)) for n in range(count)),
            batch_size=1000,
        )
        client = Client(HTTP_HOST="localhost")
        client.force_login(user)
        return {"cases": count, "page_ms": 1000 * best(lambda: client.get("/cases/").content)}


def machine() -> dict[str, Any]:
    """The machine that the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    flags = next((line.split(":")[1].split() for line in info.splitlines() if line.startswith("flags")), [])
    useful = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if flag in flags]
    return {"processor": names[0] if names else platform.processor(), "cores": available_cores(), "has": useful}


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table, for the README."""
    network, single, folder = results["network"], results["single"], results["folder"]
    speeds = network["patches_per_second"]
    rows = [
        ("network, patches per second", speeds["baseline"], speeds[network["runtime"]], network["ratio"]),
        ("single image through the API, seconds", single["baseline_seconds"], single["seconds"], single["ratio"]),
        (
            f"folder of {folder['images']}, images per minute",
            folder["baseline_images_per_minute"],
            folder["images_per_minute"],
            folder["ratio"],
        ),
    ]
    lines = ["| what | replaced method | histopath | ratio |", "|---|---:|---:|---:|"]
    lines += [f"| {what} | {before:.2f} | {after:.2f} | {ratio:.1f}× |" for what, before, after, ratio in rows]
    about = results["machine"]
    memory = ", ".join(f"{name} {size:.0f} MB" for name, size in results["memory_mb"].items())
    lines += [
        "",
        "Network alone, patches per second: "
        + ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items())
        + ".",
        (
            f"Its convolutions run at {network['share_of_peak']:.0%} of this machine's largest matrix product "
            f"at the same precision ({network['peak_gigaops']:.0f} billion operations per second)."
        ),
        (
            "Times are from accepted to finished, without upload. With upload and response: single image "
            f"{single['request_seconds']:.2f} s, "
            f"folder {folder['with_upload_images_per_minute']:.0f} images per minute."
        ),
        (
            f"Runtime {network['runtime']}; pick-up {1000 * single['pick_up_seconds']:.0f} ms; overhead in the folder "
            f"{folder['overhead_ms_an_image']:.0f} ms per image; history of {results['history']['cases']} cases "
            f"{results['history']['page_ms']:.0f} ms; memory: {memory}."
        ),
        (
            f"First page {results['start']['first_page_seconds']:.1f} s after the web server starts; "
            f"a worker is ready after {results['start']['worker_ready_seconds']:.1f} s."
        ),
        f"Idle, web server and workers use {results['idle']:.2%} of one core.",
        *(endurance.soak_lines(results["soak"]) if "soak" in results else ()),
        *(endurance.largest_lines(results["largest"]) if "largest" in results else ()),
        f"{about['processor']}, {about['cores']} cores ({', '.join(about['has']) or 'no vector extensions known'}).",
    ]
    return "\n".join(lines)
