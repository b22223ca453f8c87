"""Server-sent events, sent by a thread that holds a concurrency slot."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

from django.http import StreamingHttpResponse

#: Seconds between two writes at most, so that proxies keep the connection and a lost client is noticed.
BEAT = 5.0
STILL_HERE = b": waiting\n\n"


def encode(event: Any) -> bytes:
    """One event, its data as JSON."""
    return b"data: " + json.dumps(event).encode() + b"\n\n"


class Stream:
    """An iterator of events that releases its concurrency slot when they end, fail or are closed.

    Not a generator: one that was never started does not run its ``finally`` if the client disconnects at once.
    """

    def __init__(self, held: ExitStack, events: Generator[bytes, None, None]) -> None:
        self._held = held
        self._events = events

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._events)
        except BaseException:  # also StopIteration and GeneratorExit; raised again
            self.close()
            raise

    def close(self) -> None:
        self._events.close()
        self._held.close()


def response(stream: Stream) -> StreamingHttpResponse:
    """A response that proxies neither buffer nor cache."""
    answer = StreamingHttpResponse(stream, content_type="text/event-stream")
    answer["Cache-Control"] = "no-store"
    answer["X-Accel-Buffering"] = "no"
    return answer
