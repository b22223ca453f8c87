"""Many users browse and upload: no failures, fast pages, a queue that empties, and stable memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT
from tests.reliability.conftest import Postgres, Start, images, postgres, start  # noqa: F401
from tests.reliability.stack import Stack, children, field, until

pytestmark = [pytest.mark.slow, pytest.mark.live]

#: The full run is 600 s with 120 people and asks for the times (see docs/reliability.md).
SECONDS = int(os.environ.get("LOAD_SECONDS", "20"))
PEOPLE = int(os.environ.get("LOAD_PEOPLE", "24"))
#: Milliseconds that 95 of 100 pages may take; 0 asks nothing, as machines that do other work give no figures.
P95 = int(os.environ.get("LOAD_P95", "0"))


def resident(stack: Stack, name: str) -> float:
    """Memory of a process and its descendants in MB; shared pages count once per process."""
    total = 0
    for pid in (stack.processes[name].pid, *children(stack.processes[name].pid)):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def fill(stack: Stack, case: str) -> None:
    """Enough queued work to keep the worker busy; each image has 400 patches."""
    count = max(3, SECONDS // 12)
    for first in range(0, count, 10):
        files = [field(seed, 20 * 224) for seed in range(first, min(first + 10, count))]
        answer = requests.post(
            f"{stack.url}/api/v1/cases/{case}/slides", files=files, headers=stack.headers, timeout=300
        )
        assert answer.status_code == 201, answer.text


def furthest_out_of_order(stack: Stack) -> int:
    """By how many places the order of analysis differs from the order of upload."""
    begun = stack.ask(
        """
        answer = [str(at) for at in Analysis.objects.order_by("started_at").values_list("queued_at", flat=True)]
        """
    )
    sent = {at: place for place, at in enumerate(sorted(begun))}
    return max(abs(place - sent[at]) for place, at in enumerate(begun))


def test_response_times_with_many_users(
    start: Start,  # noqa: F811
    postgres: Postgres,  # noqa: F811
    images: list[bytes],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, content in enumerate(images[:10]):
        (folder / f"{number}.png").write_bytes(content)
    with start(DATABASE_URL=postgres.database()) as stack:
        stack.manage("collectstatic", "--no-input")
        session, cases = stack.ask(
            """
            from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
            from django.contrib.sessions.backends.db import SessionStore
            user = User.objects.get()
            store = SessionStore()
            store[SESSION_KEY] = str(user.pk)
            store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
            store[HASH_SESSION_KEY] = user.get_session_auth_hash()
            store.save()
            cases = Case.objects.bulk_create(Case(owner=user, title=f"Case {n}") for n in range(60))
            answer = [store.session_key, [str(case.pk) for case in cases]]
            """
        )
        fill(stack, cases[0])
        weight = Path(f"/proc/{stack.processes['worker'].pid}/autogroup")
        assert not weight.exists() or "nice 10" in weight.read_text(), "pages have priority over the worker"
        before = {name: resident(stack, name) for name in stack.processes}
        done = subprocess.run(
            [
                sys.executable, "-m", "locust", "-f", "tests/load/locustfile.py", "--headless", "--json",
                "--users", str(PEOPLE), "--spawn-rate", str(max(1, PEOPLE // 10)), "--run-time", f"{SECONDS}s",
                "--host", stack.url, "--exit-code-on-error", "0",
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "LOAD_SESSION": session,
                "LOAD_TOKEN": stack.headers["Authorization"].removeprefix("Token "),
                "LOAD_CASES": json.dumps(cases),
                "LOAD_IMAGES": str(folder),
            },
            capture_output=True, text=True, timeout=SECONDS + 120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        failed = [line for line in done.stderr.splitlines() if line.startswith("FAILED")]
        found = {}
        for entry in json.loads(done.stdout):
            times = sorted((float(ms), count) for ms, count in entry["response_times"].items())
            total, so_far, p95 = sum(count for _, count in times), 0, 0.0
            for ms, count in times:
                so_far += count
                if so_far >= 0.95 * total:
                    p95 = ms
                    break
            found[entry["name"]] = {"n": entry["num_requests"], "failures": entry["num_failures"], "p95_ms": p95}
        after = {name: resident(stack, name) for name in stack.processes}

        def drained() -> bool:
            time.sleep(2)  # each query starts a process, which uses CPU time
            return bool(stack.ask("answer = not Analysis.objects.filter(state__in=['queued', 'running']).exists()"))

        until(600 + SECONDS * 10, drained, "the queue drains")
        states = {row["state"] for row in stack.rows()}
        # Simultaneous uploads may change places.
        assert furthest_out_of_order(stack) <= PEOPLE
    with capsys.disabled():
        print(f"\n{PEOPLE} people, {SECONDS} s: {json.dumps(found)}; MB before {before}, after {after}")
    assert found["case"]["n"] and found["upload"]["n"]
    assert not failed
    assert not [name for name, figures in found.items() if figures["failures"]], found
    assert states == {"done"}
    if P95:
        assert all(found[name]["p95_ms"] <= P95 for name in ("history", "case", "progress", "statistics")), found
        assert after["web"] - before["web"] < 200
