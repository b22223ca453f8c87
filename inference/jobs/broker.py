"""django-q2's database broker, woken by the sender of a message instead of asking the database many times a second.

On SQLite the sender and the workers share a machine, and a named pipe beside the database wakes the broker; on
PostgreSQL ``NOTIFY`` does. A wake-up may be lost, so the table of messages is also read every few seconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Any, Protocol

from django.db import close_old_connections, connections
from django_q.brokers.orm import ORM
from django_q.conf import Conf

#: Seconds between two reads of the table without a wake-up.
READ_EVERY = 5.0
#: Seconds after which a waiting broker returns, so that django-q2 can stop it.
WAIT_SECONDS = 1.0
CHANNEL = "histopath_queue"


class WakingBroker(ORM):  # django-q2 has no type annotations
    """Use as django-q2's ``broker_class``, with ``poll`` 0."""

    _next_read = 0.0
    _wakeup: Wakeup | None = None

    def enqueue(self, task: str) -> int:
        key: int = super().enqueue(task)
        _wakeup().send()
        return key

    def dequeue(self) -> list[tuple[int, str]] | None:
        """The next message, or None after at most :data:`WAIT_SECONDS`."""
        if self._wakeup is None:
            self._wakeup = _wakeup()
        if time.monotonic() < self._next_read and not self._wakeup.wait(WAIT_SECONDS):
            return None
        # Listening starts before the table is read, so that no message is missed between the two.
        self._wakeup.listen()
        messages: list[tuple[int, str]] | None = super().dequeue()
        self._next_read = 0.0 if messages else time.monotonic() + READ_EVERY
        return messages

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Store no statistics: they would be written every second, and only ``qmonitor`` reads them."""


class Wakeup(Protocol):
    """How senders of messages wake a waiting broker."""

    def send(self) -> None: ...

    def listen(self) -> None:
        """Forget earlier wake-ups and notice later ones."""

    def wait(self, seconds: float) -> bool:
        """Whether a wake-up came since :meth:`listen`, or comes within so many seconds."""


def _wakeup() -> Wakeup:
    connection = connections[Conf.ORM]
    return PipeWakeup(f"{connection.settings_dict['NAME']}-wake") if connection.vendor == "sqlite" else NotifyWakeup()


class PipeWakeup:
    """A named pipe. Several listening brokers share it: the one that reads a wake-up takes the message."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._pipe: int | None = None

    def send(self) -> None:
        # Fails if no broker listens, or if none has read the last thousands of wake-ups.
        with contextlib.suppress(OSError):
            pipe = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(pipe, b"\0")
            finally:
                os.close(pipe)

    def listen(self) -> None:
        if self._pipe is None:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self.path, 0o600)
            # Also open for writing: otherwise it would be at its end whenever no sender has it open.
            self._pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, 65536)

    def wait(self, seconds: float) -> bool:
        return self._pipe is not None and bool(select.select([self._pipe], [], [], seconds)[0])


class NotifyWakeup:
    """PostgreSQL's ``LISTEN`` and ``NOTIFY`` on Django's own connection."""

    def send(self) -> None:
        self._execute(f"NOTIFY {CHANNEL}")

    def listen(self) -> None:
        close_old_connections()
        # Django may have opened another connection since the last time.
        self._execute(f"LISTEN {CHANNEL}")
        self._is_notified()

    def wait(self, seconds: float) -> bool:
        return self._is_notified() or bool(select.select([self._psycopg], [], [], seconds)[0])

    def _execute(self, statement: str) -> None:
        with connections[Conf.ORM].cursor() as cursor:
            cursor.execute(statement)

    @property
    def _psycopg(self) -> Any:
        connections[Conf.ORM].ensure_connection()
        return connections[Conf.ORM].connection

    def _is_notified(self) -> bool:
        """Whether a notification arrived together with the answer to a query."""
        return bool(list(self._psycopg.notifies(timeout=0)))
