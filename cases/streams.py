"""Progress of a case as server-sent events, for the page that is open."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

from .api.waiting import Slot
from .models import Case
from .progress import case_progress

#: Seconds between two looks at the rows, and after which a stream ends; the page then asks again, so
#: that no window left open keeps a thread for ever.
PAUSE = 0.5
LONGEST = 55.0
#: Something is written at least this often, so that a browser that has gone is noticed.
BEAT = 5.0


class CaseStream:
    """An iterator of events that holds a slot until it is closed.

    No generator, because one that was never started does not run its ``finally``.
    """

    def __init__(self, pk: uuid.UUID, slot: Slot) -> None:
        self._slot = slot
        self._events = _follow(pk)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._slot.release()


def _follow(pk: uuid.UUID) -> Iterator[bytes]:
    until = time.monotonic() + LONGEST
    said: object = None
    said_at = 0.0
    while True:
        case = Case.objects.filter(pk=pk).first()
        if case is None:
            return
        now = case_progress(case)
        if now != said:
            yield f"data: {json.dumps(now)}\n\n".encode()
            said, said_at = now, time.monotonic()
        if not now["open"] or time.monotonic() >= until:
            return
        if time.monotonic() - said_at >= BEAT:
            yield b": waiting\n\n"
            said_at = time.monotonic()
        time.sleep(PAUSE)
