"""Files in a bucket work as in a folder, over the real protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from tests.live.conftest import free_port

from .conftest import S3_KEYS
from .stack import running, until

pytestmark = [pytest.mark.slow, pytest.mark.live]


def bucket(url: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=url, region_name="eu-central-1", **keys)


def names(client: Any) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket="slides").get("Contents", [])]


def test_slides_are_stored_in_a_bucket(s3: str, tmp_path: Path, random_checkpoint: Path, images: list[bytes]) -> None:
    client = bucket(s3)
    client.create_bucket(Bucket="slides", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    places = {"MODEL_DIR": str(random_checkpoint.parent), "S3_BUCKET": "slides", "S3_ENDPOINT_URL": s3, **S3_KEYS}
    with running(tmp_path, **places) as stack:
        assert stack.upload(images[0]).status_code == 201
        until(120, stack.settled, "settled")
        (row,) = stack.rows()
        assert (row["state"], row["file"]) == ("done", True)
        assert any(name.startswith("slides/") for name in names(client))
        assert not (stack.var / "media").exists() or not any((stack.var / "media").rglob("*.png"))

        (slide,) = stack.states().values()
        picture = requests.get(slide["image_url"], headers=stack.headers, timeout=30)
        assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
        assert picture.content.startswith(b"\x89PNG")
        assert "1 slides, 1 cases and all models are intact" in stack.manage("verify")

        gone = requests.delete(f"{stack.url}/api/v1/cases/{stack.case}", headers=stack.headers, timeout=60)
        assert gone.status_code == 204
        assert until(30, lambda: not names(client), "nothing is left in the bucket") is True


def test_an_unavailable_bucket_is_handled_like_a_failing_disk(
    tmp_path: Path, random_checkpoint: Path, images: list[bytes]
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    places = {"MODEL_DIR": str(random_checkpoint.parent), "S3_BUCKET": "slides", "S3_ENDPOINT_URL": nobody, **S3_KEYS}
    with running(tmp_path, **places) as stack:
        answer = stack.upload(images[0], timeout=120)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
        assert stack.rows() == []
