"""API clients with a real server and worker: upstream's clients, retries, limits and errors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from cases.images import synthetic
from inference.cli.client import Client
from tests.conftest import ROOT
from tests.live.conftest import Stack, start, stop
from tests.reliability.stack import field, until

pytestmark = pytest.mark.live

FIELDS = {"prediction", "confidence", "probabilities", "num_patches", "patch_breakdown", "processing_time_seconds"}


def noise(seed: int, size: tuple[int, int] = (448, 224)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def sign_in(stack: Stack) -> str:
    body = {"username": stack.username, "password": stack.password, "name": "live test"}
    answer = requests.post(f"{stack.url}/api/v1/sign-in", json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    return sign_in(stack)


@pytest.fixture
def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Token {token}"}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Stack]:
    """A server with low limits."""
    running = start(
        tmp_path_factory.mktemp("strict"), model_dir,
        API_RATE_PREDICT="4/min", UPLOAD_MAX_BYTES="100000", UPLOAD_MAX_REQUEST_BYTES="400000",
    )  # fmt: skip
    yield running
    stop(running)


def problem(answer: requests.Response) -> Any:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text[:500]
    return answer.json()


def test_upstreams_requests_client(stack: Stack, headers: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(noise(1))
    (tmp_path / "b.png").write_bytes(noise(2))
    assert requests.get(f"{stack.url}/health", timeout=10).json()["status"] == "healthy"
    with (tmp_path / "a.png").open("rb") as image:
        answer = requests.post(f"{stack.url}/predict/single", files={"file": image}, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    single = answer.json()
    assert set(single) >= FIELDS
    with (tmp_path / "a.png").open("rb") as a, (tmp_path / "b.png").open("rb") as b:
        files = [("files", ("a.png", a, "image/png")), ("files", ("b.png", b, "image/png"))]
        answer = requests.post(f"{stack.url}/predict/folder", files=files, headers=headers, timeout=120)
    folder = answer.json()
    assert folder["num_images"] == 2
    again = folder["individual_predictions"][0]
    assert again["probabilities"] == single["probabilities"], "identical results from every client"


def test_upstreams_curl_client(stack: Stack, token: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(noise(3))
    command = ["curl", "-sS", "-X", "POST", f"{stack.url}/predict/single", "-H", f"Authorization: Token {token}"]
    done = subprocess.run([*command, "-F", f"file=@{tmp_path / 'a.png'}"], capture_output=True, timeout=120, check=True)
    assert set(json.loads(done.stdout)) >= FIELDS


@pytest.mark.skipif(not shutil.which("node"), reason="no node to run a fetch client")
def test_upstreams_fetch_client_reads_the_stream(stack: Stack, token: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(noise(4, (2240, 448)))
    script = """
      const { readFileSync } = require("node:fs");
      const form = new FormData();
      form.append("file", new Blob([readFileSync(process.argv[1])]), "a.png");
      fetch(process.env.API + "/predict/single/stream", {
        method: "POST", body: form, headers: { Authorization: "Token " + process.env.TOKEN },
      }).then(async (response) => {
        const reader = response.body.getReader();
        const decoder = new TextDecoder();
        let buffer = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          buffer += decoder.decode(value, { stream: true });
          const lines = buffer.split("\\n");
          buffer = lines.pop();
          for (const line of lines) if (line.startsWith("data: ")) console.log(line.slice(6));
        }
      });
    """
    env = {**os.environ, "API": stack.url, "TOKEN": token}
    done = subprocess.run(
        ["node", "-e", script, str(tmp_path / "a.png")],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["type"] == "start"
    assert events[-1]["type"] == "complete"
    assert set(events[-1]["result"]) >= FIELDS
    progress = [event for event in events if event["type"] == "progress" and event["current"]]
    assert progress[-1]["current"] == progress[-1]["total"] == 20
    assert [event["current"] for event in progress] == sorted(event["current"] for event in progress)
    assert all(event["percentage"] == pytest.approx(5 * event["current"], abs=0.1) for event in progress)


def test_async_answers_at_once_and_the_location_has_the_result(stack: Stack, headers: dict[str, str]) -> None:
    image = {"file": ("async.png", noise(5, (2240, 448)))}
    answer = requests.post(
        f"{stack.url}/predict/single", files=image, headers={**headers, "Prefer": "respond-async"}, timeout=30
    )
    assert answer.status_code == 202
    limit = time.monotonic() + 120
    while (poll := requests.get(answer.headers["Location"], headers=headers, timeout=30)).status_code == 202:
        assert time.monotonic() < limit
        time.sleep(0.3)
    assert poll.json()["id"] == answer.json()["id"]
    assert poll.json()["num_patches"] == 20


def test_a_lost_connection_loses_nothing_and_a_retry_finds_the_same(stack: Stack, headers: dict[str, str]) -> None:
    image = noise(6, (2240, 448))
    sent = {**headers, "Idempotency-Key": "lost-1"}
    url = f"{stack.url}/predict/single"
    with pytest.raises(requests.Timeout):
        requests.post(url, files={"file": ("a.png", image)}, headers=sent, timeout=(5, 0.02))
    with contextlib.closing(sqlite3.connect(stack.var / "live.sqlite3")) as database:
        known = "SELECT 1 FROM cases_submission WHERE key = 'lost-1'"
        until(60, lambda: database.execute(known).fetchone(), "the upload is stored although its client has gone")
    limit = time.monotonic() + 60
    while True:
        again = requests.post(url, files={"file": ("a.png", image)}, headers=sent, timeout=120)
        if again.status_code != 409:  # the first call is still in progress
            break
        assert time.monotonic() < limit
        time.sleep(0.3)
    assert again.status_code == 200
    assert again.headers["Idempotent-Replayed"] == "true"
    cases = requests.get(
        f"{stack.url}/api/v1/analyses", params={"case": again.json()["case"]}, headers=headers, timeout=30
    )
    assert cases.json()["count"] == 1
    other = requests.post(url, files={"file": ("a.png", noise(7))}, headers=sent, timeout=120)
    assert (other.status_code, problem(other)["code"]) == (422, "idempotency_mismatch")


def test_a_client_that_leaves_a_stream_frees_its_slot(stack: Stack, headers: dict[str, str]) -> None:
    for seed in range(12):  # more than half of the threads
        image = {"file": ("gone.png", noise(100 + seed))}
        with requests.post(
            f"{stack.url}/predict/single/stream", files=image, headers=headers, stream=True, timeout=30
        ) as answer:
            assert answer.status_code in (200, 202)
    limit = time.monotonic() + 120
    while True:
        answer = requests.post(
            f"{stack.url}/predict/single/stream", files={"file": ("gone.png", noise(100))}, headers=headers, timeout=120
        )
        if answer.status_code == 200:
            assert '"type": "complete"' in answer.text
            return
        assert time.monotonic() < limit
        time.sleep(1)


def test_a_mixed_folder_and_a_folder_of_bad_files(stack: Stack, headers: dict[str, str]) -> None:
    url = f"{stack.url}/predict/folder"
    mixed = [
        ("files", ("good.png", noise(8))),
        ("files", ("notes.png", b"text")),
        ("files", ("cut.png", noise(9)[:300])),
    ]
    body = requests.post(url, files=mixed, headers=headers, timeout=120).json()
    assert body["num_images"] == 1
    assert {one["filename"]: one["code"] for one in body["errors"]} == {
        "notes.png": "not_an_image",
        "cut.png": "damaged",
    }
    bad = requests.post(url, files=mixed[1:], headers=headers, timeout=60)
    assert bad.status_code == 400
    assert [one["filename"] for one in problem(bad)["errors"]] == ["notes.png", "cut.png"]


def test_one_client_in_many_threads(stack: Stack, token: str, tmp_path: Path) -> None:
    """More simultaneous calls than a user has concurrency slots: all succeed eventually."""
    paths = []
    for seed in range(32):
        paths.append(tmp_path / f"{seed}.png")
        paths[-1].write_bytes(noise(500 + seed))
    client = Client(stack.url, token)
    with ThreadPoolExecutor(16) as pool:
        assert len({result["id"] for result in pool.map(client.predict, paths)}) == len(paths)


@pytest.mark.slow
def test_an_upload_may_take_longer_than_other_calls(stack: Stack, token: str) -> None:
    client = Client(stack.url, token, timeout=2, retries=0)
    files = [field(700 + seed, 18 * 224)[1][:2] for seed in range(6)]

    def answered(_: object) -> None:
        client._timeout = 60.0  # the following calls only ask for the progress

    assert client.predict_folder(files, progress=answered)["num_images"] == len(files)


def test_two_simultaneous_calls_with_one_key(stack: Stack, token: str, tmp_path: Path) -> None:
    """As after a lost connection while the first call is still processed: the second waits for it."""
    paths = [tmp_path / f"{seed}.png" for seed in range(6)]
    for seed, path in enumerate(paths):
        path.write_bytes(noise(600 + seed))
    client = Client(stack.url, token)
    with ThreadPoolExecutor(3) as pool:
        cases = pool.map(lambda _: client.predict_folder(paths, key="sent-thrice")["case"], range(3))
        assert len(set(cases)) == 1


def test_wrong_and_expired_tokens(stack: Stack) -> None:
    url = f"{stack.url}/predict/single"
    answer = requests.post(url, files={"file": noise(1)}, headers={"Authorization": "Token " + "0" * 64}, timeout=30)
    assert (answer.status_code, problem(answer)["code"]) == (401, "token_invalid")
    assert problem(requests.post(url, files={"file": noise(1)}, timeout=30))["code"] == "not_authenticated"
    expired = sign_in(stack)
    with sqlite3.connect(stack.var / "live.sqlite3") as database:
        database.execute("UPDATE cases_apitoken SET expiry = '2020-01-01' WHERE token_key = ?", [expired[:15]])
    database.close()
    answer = requests.get(f"{stack.url}/api/v1/me", headers={"Authorization": f"Token {expired}"}, timeout=30)
    assert (answer.status_code, problem(answer)["code"]) == (401, "token_expired")


def test_too_large_and_too_many_requests(strict: Stack) -> None:
    headers = {"Authorization": f"Token {sign_in(strict)}"}
    url = f"{strict.url}/predict/single"
    over_request = requests.post(url, files={"file": b"x" * 500_000}, headers=headers, timeout=30)
    assert over_request.status_code == 413
    assert (problem(over_request)["limit"], problem(over_request)["unit"]) == (400_000, "bytes")
    over_file = requests.post(url, files={"file": b"x" * 200_000}, headers=headers, timeout=30)
    assert (over_file.status_code, problem(over_file)["limit"]) == (413, 100_000)
    for _ in range(10):
        answer = requests.post(url, files={"file": b"x"}, headers=headers, timeout=30)
        if answer.status_code == 429:
            break
    assert problem(answer)["code"] == "throttled"
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert requests.get(f"{strict.url}/api/v1/me", headers=headers, timeout=30).status_code == 200


def test_health_answers_in_milliseconds(stack: Stack) -> None:
    with requests.Session() as session:
        session.get(f"{stack.url}/health", timeout=10)
        taken = []
        for _ in range(20):
            started = time.perf_counter()
            assert session.get(f"{stack.url}/health", timeout=10).status_code == 200
            taken.append(time.perf_counter() - started)
    assert sorted(taken)[10] < 0.25, "median; some ten milliseconds on an idle machine"


def test_command_line_client_page_and_api_show_the_same_numbers(
    stack: Stack, token: str, headers: dict[str, str], model_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "field.png"
    path.write_bytes(synthetic.uploads()[1].read())
    by_api = requests.post(
        f"{stack.url}/predict/single", files={"file": path.read_bytes()}, headers=headers, timeout=120
    ).json()
    by_client = Client(stack.url, token).predict(path)

    def by_command(*arguments: str) -> Any:
        env = {
            **os.environ, "SECRET_KEY": "x" * 50, "DJANGO_SETTINGS_MODULE": "histopath.settings",
            "MODEL_DIR": str(model_dir), "VAR_DIR": str(tmp_path),
        }  # fmt: skip
        command = [sys.executable, "manage.py", "predict", "--image", str(path), "--json", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180, check=True)
        return json.loads(done.stdout)

    here, there = by_command(), by_command("--server", stack.url, "--token", token)
    for name in (
        "verdict",
        "confidence",
        "probabilities",
        "raw_probability",
        "num_patches",
        "patch_breakdown",
        "model",
    ):
        assert by_api[name] == by_client[name] == here[name] == there[name], name  # type: ignore[literal-required]
