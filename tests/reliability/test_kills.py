"""Whichever process is killed: every accepted slide is done once, or fails and can be analysed again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from tests.images.test_uploads import bomb

from .conftest import Postgres, Start
from .stack import LEASE, Stack, children, field, until

pytestmark = [pytest.mark.slow, pytest.mark.live]

#: Random kills in the run over everything; 50 for the full figures (see docs/reliability.md).
KILLS = int(os.environ.get("RELIABILITY_KILLS", "5"))
SEED = int(os.environ.get("RELIABILITY_SEED", "20"))


def textured(seed: int) -> bytes:
    """A field of 1,120 pixels that is tissue everywhere, in blocks of 8 so that the file is small."""
    noise = np.random.default_rng(seed).normal(0, 30, (140, 140, 3))
    pixels = np.clip(np.array([200, 140, 190]) + noise, 0, 255).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).resize((1120, 1120), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def upload_several(stack: Stack, count: int) -> set[str]:
    """Images that take longer to analyse than to upload, so that some are still queued after the last upload."""
    requests.patch(
        f"{stack.url}/api/v1/cases/{stack.case}", json={"overlap": 0.5}, headers=stack.headers, timeout=30
    ).raise_for_status()
    answers = [stack.upload(textured(n)).json() for n in range(count)]
    return {slide["id"] for answer in answers for slide in answer["slides"]}


def running_one(stack: Stack) -> Any:
    return until(60, lambda: [s for s in stack.states().values() if s["state"] == "running"], "an analysis is running")


def assert_all_done(stack: Stack, slides: set[str]) -> None:
    rows = {row["slide"]: row for row in stack.rows()}
    assert slides <= rows.keys(), "lost"
    for row in rows.values():
        assert (row["current"], row["state"], row["tables"], row["file"]) == (1, "done", 1, True), row


def worker_pids(stack: Stack) -> list[int]:
    return children(stack.processes["worker"].pid)


def test_a_worker_killed_in_the_middle_of_a_slide(start: Start) -> None:
    with start() as stack:
        accepted = upload_several(stack, 4)
        running_one(stack)
        for pid in worker_pids(stack)[1:]:
            stack.kill("worker", pid)
        until(LEASE + 120, stack.settled, "all settled")
        assert_all_done(stack, accepted)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_process_of_the_cluster_killed_while_it_is_idle(start: Start, images: list[bytes], workers: int) -> None:
    """Idle processes hold a lock while waiting, which stays locked when they are killed."""
    with start(Q_WORKERS=str(workers)) as stack:
        accepted = {slide["id"] for slide in stack.upload(images[0]).json()["slides"]}
        until(90, stack.settled, "settled")
        for n in range(len(worker_pids(stack)) - 1):
            time.sleep(1.5)
            # The first child is the sentinel, followed by workers, monitor and pusher.
            stack.kill("worker", worker_pids(stack)[1 + n])
            answer = stack.upload(images[1 + n])
            assert answer.status_code == 201
            accepted |= {slide["id"] for slide in answer.json()["slides"]}
            until(60, stack.settled, f"settled after kill {n}")
            until(30, lambda: len(worker_pids(stack)) == workers + 3, "all processes are replaced")
        assert_all_done(stack, accepted)
        assert stack.processes["worker"].poll() is None
        assert stack.stop("worker") == 0


def test_the_whole_cluster_killed_leaves_no_process_and_no_stuck_slide(start: Start) -> None:
    with start() as stack:
        accepted = upload_several(stack, 4)
        running_one(stack)
        below = worker_pids(stack)
        assert below
        stack.kill("worker")
        until(
            10,
            lambda: not [pid for pid in below if Path(f"/proc/{pid}/cwd").exists()],
            "its child processes have ended",
        )
        stack.start("worker")
        until(LEASE + 120, stack.settled, "all settled")
        assert_all_done(stack, accepted)


def test_gunicorn_killed_in_the_middle_of_an_upload(start: Start, images: list[bytes]) -> None:
    with start() as stack:
        body = (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + images[0] + bytes(4_000_000)
        )
        head = (
            f"POST /api/v1/cases/{stack.case}/slides HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {stack.headers['Authorization']}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body) + 100}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", stack.port)) as connection:
            connection.sendall(head + body)
            time.sleep(0.5)
            stack.kill_whole("web")
        stack.start("web")
        stack.wait_ready()
        assert stack.rows() == []
        assert not [path for path in (stack.var / "media").rglob("*") if path.is_file()]
        assert stack.upload(images[1]).status_code == 201
        until(120, stack.settled, "settled")
        stack.manage("purge")
        left = [path for path in (stack.var / "incoming").rglob("*") if path.is_file()]
        assert not [path for path in left if time.time() - path.stat().st_mtime > 3600]


def test_gunicorn_killed_in_the_middle_of_a_folder_call(start: Start) -> None:
    """The client got no response, so the stored part is deleted and does not look like a complete case."""
    files = [field(seed, 3000) for seed in range(40)]
    with start() as stack:
        whole = {**stack.headers, "Idempotency-Key": "one", "Prefer": "respond-async"}
        answers: list[Any] = []

        def send() -> None:
            with contextlib.suppress(requests.RequestException):
                answers.append(requests.post(f"{stack.url}/predict/folder", files=files, headers=whole, timeout=120))

        sender = threading.Thread(target=send)
        sender.start()
        until(60, lambda: len(stack.rows()) >= 2, "some images are stored")
        stack.kill_whole("web")
        sender.join()
        assert not answers
        stack.start("web")
        stack.wait_ready()
        others = [field(seed) for seed in range(100, 103)]
        again = requests.post(f"{stack.url}/predict/folder", files=others, headers=stack.headers, timeout=120)
        assert again.status_code in (200, 202), again.text  # the interrupted call may still be processed
        stored = "answer = [Case.objects.count(), Submission.objects.filter(key='one').count()]"
        assert stack.ask(stored) == [3, 1]
        late = "from datetime import timedelta; from django.utils import timezone\n"
        late += "answer = Submission.objects.filter(key='one').update(receiving_until=timezone.now() - timedelta(1))"
        assert stack.ask(late) == 1
        # A busy worker does this after its current task, which takes long with images of this size.
        until(600, lambda: stack.ask(stored) == [2, 0], "the incomplete case is deleted")
        assert stack.ask("answer = Slide.objects.count()") == 3


class Crasher(threading.Thread):
    """Sends SIGSEGV to the process that decodes an image, as a fault in a library's C code would.

    That process is a fork of the decoder's server. Small images add next to nothing to the memory that it shares with
    the server; the one that adds much is the poisoned one.
    """

    ADDED = 64 * 2**20

    def __init__(self, web: int) -> None:
        super().__init__(daemon=True)
        self.web = web
        self.server: int | None = None
        self.killed: int | None = None

    @staticmethod
    def below(pid: int) -> list[int]:
        with contextlib.suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def decoding(self) -> int | None:
        for pid in children(self.web):
            with contextlib.suppress(OSError):
                is_server = b"cases.images.sandbox_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
                if is_server and (forks := self.below(pid)):
                    self.server = pid
                    return forks[0]
        return None

    @staticmethod
    def own_memory(pid: int) -> int:
        """Its private memory in bytes; 0 if it has ended."""
        with contextlib.suppress(OSError):
            found = re.search(r"^Private_Dirty: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            return int(found[1]) * 1024 if found else 0
        return 0

    def run(self) -> None:
        end = time.monotonic() + 60
        while self.killed is None and time.monotonic() < end:
            now = self.decoding()
            if now is not None and self.own_memory(now) > self.ADDED:
                os.kill(now, signal.SIGSEGV)
                self.killed = now
            time.sleep(0.01)


def test_an_image_that_crashes_the_decoder_fails_alone(start: Start, images: list[bytes]) -> None:
    with start() as stack:
        web = stack.processes["web"].pid
        before = [pid for pid in children(web) if Path(f"/proc/{pid}/cmdline").exists()]
        crasher = Crasher(web)
        crasher.start()
        batch = [("first.png", images[0]), ("poison.png", bomb(11_000)), ("second.png", images[1])]
        answer = requests.post(
            f"{stack.url}/api/v1/cases/{stack.case}/slides",
            files=[("files", (name, content, "image/png")) for name, content in batch],
            headers=stack.headers,
            timeout=120,
        )
        crasher.join()
        assert crasher.killed is not None
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert [slide["filename"] for slide in body["slides"]] == ["first.png", "second.png"]
        (problem,) = body["errors"]
        assert (problem["filename"], problem["code"]) == ("poison.png", "undecodable")
        assert "crash" in problem["reason"]
        assert set(before) <= set(children(web)), "web process and decoder server still run"
        assert crasher.server in children(web)
        assert stack.upload(images[2]).status_code == 201
        until(120, stack.settled, "settled")
        assert_all_done(stack, {slide["id"] for slide in body["slides"]})
        stored = list((stack.var / "media" / "slides").rglob("*.png"))
        assert len(stored) == 3 and not list((stack.var / "incoming").iterdir())


def test_an_image_that_kills_its_worker_fails_alone(start: Start, images: list[bytes]) -> None:
    """The worker is killed whenever it analyses that image, as when memory runs out."""
    with start() as stack:
        assert stack.stop("worker") == 0
        sent = [*images[:2], large(), *images[2:4]]
        accepted = [stack.upload(image, timeout=120).json()["slides"][0]["id"] for image in sent]
        stack.start("worker")
        poison, killed = accepted[2], 0

        def given_up() -> bool:
            nonlocal killed
            with contextlib.closing(sqlite3.connect(stack.var / "histopath.sqlite3")) as database:
                query = "SELECT state, attempts FROM inference_analysis WHERE slide_id = ?"
                ((state, attempts),) = database.execute(query, (poison.replace("-", ""),))
            if state == "running" and attempts > killed:
                for pid in worker_pids(stack)[1:]:
                    stack.kill("worker", pid)
                killed = attempts
            return bool(state == "failed")

        until(6 * LEASE + 120, given_up, "the poison is given up")
        until(LEASE + 120, stack.settled, "all settled")
        rows = {row["slide"]: row for row in stack.rows()}
        assert "stopped 3 times" in rows.pop(poison)["error"]
        assert killed == 3 and [row["state"] for row in rows.values()] == ["done"] * 4


def large() -> bytes:
    """An image whose analysis takes seconds."""
    pixels = np.full((6000, 6000, 3), (200, 140, 190), dtype=np.uint8)
    pixels[::7, ::5] = 90
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_stopped_worker_returns_its_analyses(start: Start) -> None:
    with start() as stack:
        accepted = upload_several(stack, 6)
        running_one(stack)
        assert stack.stop("worker") == 0
        states = Counter(row["state"] for row in stack.rows())
        assert states["running"] == 0 and states["queued"] >= 1 and states["failed"] == 0
        stack.start("worker")
        until(240, stack.settled, "all settled")
        assert_all_done(stack, accepted)


class Uploader(threading.Thread):
    """Uploads images until it is stopped, and records which the server accepted."""

    def __init__(self, stack: Stack, images: list[bytes], seed: int) -> None:
        super().__init__(daemon=True)
        self.stack, self.images, self.chance = stack, images, random.Random(seed)
        self.accepted: set[str] = set()
        self.unanswered = 0
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.wait(self.chance.uniform(0.5, 1.5)):
            try:
                answer = self.stack.upload(self.chance.choice(self.images), timeout=10)
                if answer.status_code == 201:
                    self.accepted |= {slide["id"] for slide in answer.json()["slides"]}
                else:
                    self.unanswered += 1
            except requests.RequestException:
                self.unanswered += 1


def random_kills(stack: Stack, images: list[bytes], kills: int, seed: int) -> dict[str, int]:
    """Upload continuously while a process is killed every few seconds, then wait for all analyses. Returns counts."""
    chance = random.Random(seed)
    uploader = Uploader(stack, images, seed)
    uploader.start()
    for _ in range(kills):
        time.sleep(chance.uniform(0.5, 5))
        stack.kill_one_of(chance)
        time.sleep(chance.uniform(0.1, 1))
        stack.supervise()
    uploader.end.set()
    uploader.join()

    def settled() -> bool:
        stack.supervise()
        return stack.settled()

    until(LEASE + 900, settled, "all settled after the kills")
    rows = stack.rows()
    failed = [row for row in rows if row["state"] == "failed"]
    assert all(row["error"] for row in failed), "each failure has a reason"
    if failed:
        again = requests.post(
            f"{stack.url}/api/v1/cases/{stack.case}/analyses", headers=stack.headers, json={}, timeout=60
        )
        assert again.status_code == 202, again.text
        until(900, stack.settled, "all settled after trying again")
    assert_all_done(stack, uploader.accepted)
    return {
        "kills": kills,
        "accepted": len(uploader.accepted),
        "unanswered": uploader.unanswered,
        "failed, then tried again": len(failed),
    }


def test_random_kills(start: Start, images: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    with start() as stack:
        counted = random_kills(stack, images, KILLS, SEED)
    with capsys.disabled():
        print(f"\nrandom kills, SQLite: {counted}")


def test_random_kills_on_postgresql_and_redis(
    start: Start, images: list[bytes], postgres: Postgres, redis: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    redis()
    with start(DATABASE_URL=postgres.database(), REDIS_URL=redis.url) as stack:
        counted = random_kills(stack, images, KILLS, SEED + 1)
    with capsys.disabled():
        print(f"\nrandom kills, PostgreSQL and Redis: {counted}")


def test_postgresql_killed_in_the_middle_of_an_analysis(start: Start, postgres: Postgres) -> None:
    with start(DATABASE_URL=postgres.database()) as stack:
        accepted = upload_several(stack, 3)
        running_one(stack)
        postgres.kill()
        answer = requests.get(f"{stack.url}/health", timeout=10)
        assert (answer.status_code, answer.json()["checks"]["database"]) == (503, False)
        time.sleep(3)
        postgres.start()
        stack.supervise()
        until(
            90, lambda: requests.get(f"{stack.url}/health", timeout=5).status_code == 200, "healthy without a restart"
        )
        until(LEASE + 120, stack.settled, "all settled")
        assert_all_done(stack, accepted)


def test_nothing_is_lost_without_redis(start: Start, images: list[bytes], redis: Any) -> None:
    process = redis()
    with start(REDIS_URL=redis.url) as stack:
        process.kill()
        process.wait()
        answer = stack.upload(images[0])
        assert answer.status_code == 201, "the row is the queue; the message is only a wake-up"
        time.sleep(2)
        redis()
        stack.supervise()
        until(120, stack.settled, "found by the sweep")
        assert_all_done(stack, {slide["id"] for slide in answer.json()["slides"]})


def test_a_long_broker_outage_ends_no_worker(start: Start, images: list[bytes], redis: Any) -> None:
    """Without a restart, heartbeats continue, and accepted images are done once the broker is back."""
    process = redis()
    with start(REDIS_URL=redis.url) as stack:
        accepted = {slide["id"] for slide in stack.upload(images[0]).json()["slides"]}
        until(60, stack.settled, "settled")
        process.kill()
        process.wait()
        accepted |= {slide["id"] for slide in stack.upload(images[1]).json()["slides"]}
        time.sleep(15)
        # One of its processes is killed during the outage.
        stack.kill("worker", worker_pids(stack)[1])
        time.sleep(15)
        assert stack.processes["worker"].poll() is None
        assert "no_worker" not in requests.get(f"{stack.url}/health", timeout=30).text
        redis()
        until(120, stack.settled, "found by the sweep")
        assert_all_done(stack, accepted)
        assert stack.stop("worker") == 0
