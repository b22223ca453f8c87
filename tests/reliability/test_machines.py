"""Two machines with one queue: separate folders and model files; shared database, Redis and bucket."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from .conftest import S3_KEYS, Postgres
from .stack import Stack, field, running, until
from .test_s3 import bucket

pytestmark = [pytest.mark.slow, pytest.mark.live]

FIELDS = 40
#: 25 patches: some half a second for one thread.
SIDE = 1000


def done_by(stack: Stack) -> set[str]:
    return set(re.findall(r"Analysis ([0-9a-f-]{36}) done", stack.log("worker")))


def test_workers_on_two_machines_share_the_queue(
    tmp_path: Path, random_checkpoint: Path, postgres: Postgres, redis: Callable[[], Any], s3: str
) -> None:
    redis()
    bucket(s3).create_bucket(Bucket="slides", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    shared = {
        "DATABASE_URL": postgres.database(),
        "REDIS_URL": redis.url,  # type: ignore[attr-defined]
        "S3_BUCKET": "slides",
        "S3_ENDPOINT_URL": s3,
        "MODEL_DIR": str(random_checkpoint.parent),
        "ANALYSIS_THREADS": "1",
        "ANALYSIS_LEASE": "120",
        **S3_KEYS,
    }
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with running(one, **shared) as first:
        second = Stack(two, shared)
        try:
            second.start("worker")
            until(60, lambda: first.ask("answer = Cluster.objects.count()") == 2, "both clusters send heartbeats")
            answer = requests.post(
                f"{first.url}/predict/folder",
                headers={**first.headers, "Prefer": "respond-async"},
                files=[field(seed, SIDE) for seed in range(FIELDS)],
                timeout=300,
            )
            assert answer.status_code == 202, answer.text
            until(240, lambda: first.ask("answer = not Analysis.objects.exclude(state='done').exists()"), "all done")
        finally:
            second.stop_all()
        assert first.ask("answer = Analysis.objects.filter(attempts=1).count()") == FIELDS
    shares = done_by(first), done_by(second)
    assert len(shares[0] | shares[1]) == FIELDS
    assert not shares[0] & shares[1]
    # Each is woken by a message or its own heartbeat, so the shares may differ.
    assert min(map(len, shares)) >= FIELDS // 5, [len(share) for share in shares]
