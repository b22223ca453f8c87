"""Stored files on S3 or what speaks its protocol. Imported only where ``S3_BUCKET`` is set."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage


@contextmanager
def _as_a_disk_would() -> Iterator[None]:
    """A service that is away or refuses is an ``OSError``, so that it is answered like a failing disk."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error


class Storage(S3Storage):  # type: ignore[misc]
    """As django-storages', but it fails as the local file store does."""

    def _save(self, name: str, content: Any) -> str:
        with _as_a_disk_would():
            return str(super()._save(name, content))

    def _open(self, name: str, mode: str = "rb") -> Any:
        with _as_a_disk_would():
            return super()._open(name, mode)

    def exists(self, name: str) -> bool:
        with _as_a_disk_would():
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        with _as_a_disk_would():
            super().delete(name)

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        with _as_a_disk_would():
            folders, files = super().listdir(name)
            return folders, files
