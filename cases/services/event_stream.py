"""Server-sent events: how they are written, and an answer that keeps a thread only while it has a turn."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from django.http import StreamingHttpResponse

from cases.limits.concurrency import ConcurrencySlot

#: Something is written at least this often, so that proxies keep the line and a client that has gone is noticed.
BEAT = 5.0
STILL_HERE = b": waiting\n\n"


def encode(event: Any) -> bytes:
    """One event, its data as JSON."""
    return b"data: " + json.dumps(event).encode() + b"\n\n"


class Stream:
    """Events, as an iterator that holds a turn until they end, fail or are closed.

    No generator itself, because one that was never started does not run its ``finally`` when the client goes at once.
    """

    def __init__(self, turn: ConcurrencySlot, events: Generator[bytes, None, None]) -> None:
        self._turn = turn
        self._events = events

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._events.close()
        self._turn.release()


def response(stream: Stream) -> StreamingHttpResponse:
    """An answer that no proxy holds back or keeps."""
    answer = StreamingHttpResponse(stream, content_type="text/event-stream")
    answer["Cache-Control"] = "no-store"
    answer["X-Accel-Buffering"] = "no"
    return answer
