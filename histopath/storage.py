"""Stored files in an S3-compatible bucket. Imported only if ``S3_BUCKET`` is set."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage


@contextmanager
def _raising_oserror() -> Iterator[None]:
    """Turn errors of the service into ``OSError``, so that they are handled like a failing disk."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error


class _RangeReader(io.RawIOBase):
    """An object in the bucket as a seekable file; only the bytes that are read are fetched."""

    def __init__(self, obj: Any) -> None:
        self._object = obj
        self._size = int(obj.content_length)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        with _raising_oserror():
            got = self._object.get(Range=f"bytes={self._at}-{self._at + wanted - 1}")["Body"].read()
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


class Storage(S3Storage):
    """The storage of django-storages, raising ``OSError`` on failure as local storage does."""

    def _save(self, name: str, content: Any) -> str:
        with _raising_oserror():
            return str(super()._save(name, content))

    def _open(self, name: str, mode: str = "rb") -> Any:
        with _raising_oserror():
            return super()._open(name, mode)

    def open_in_pieces(self, name: str) -> io.BufferedReader:
        """Open a file for random access: ``open`` would fetch the whole file first."""
        return io.BufferedReader(_RangeReader(self.open(name).obj), 2**16)

    def exists(self, name: str) -> bool:
        with _raising_oserror():
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        with _raising_oserror():
            super().delete(name)

    def get_modified_time(self, name: str) -> datetime:
        with _raising_oserror():
            return super().get_modified_time(name)

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        with _raising_oserror():
            folders, files = super().listdir(name)
            return folders, files
