"""Progress as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse

from inference.models import Analysis

from .waiting import LONGEST_PAUSE, Slot, pauses

#: Something is written at least this often, so that proxies keep the line and a client that has gone
#: is noticed.
BEAT = 5.0

Event = dict[str, Any]


def encode(event: Event) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


class Stream:
    """Follows one analysis until it has ended, holding a slot.

    An iterator with ``close`` and no generator, because a generator that was never started does not
    run its ``finally`` when the client goes at once.
    """

    def __init__(
        self,
        slot: Slot,
        load: Callable[[], Analysis],
        start: Event,
        progress: Callable[[Analysis], Event],
        end: Callable[[Analysis], Event],
    ) -> None:
        self._slot = slot
        self._events = self._follow(load, start, progress, end)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._events.close()
        self._slot.release()

    @staticmethod
    def _follow(
        load: Callable[[], Analysis],
        start: Event,
        progress: Callable[[Analysis], Event],
        end: Callable[[Analysis], Event],
    ) -> Generator[bytes, None, None]:
        yield encode(start)
        until = time.monotonic() + settings.API_STREAM_SECONDS
        said, said_at = start, time.monotonic()
        steps = iter(pauses())
        while True:
            try:
                analysis = load()
            except Analysis.DoesNotExist:
                yield encode({"type": "error", "code": "not_found", "message": "The image was deleted meanwhile."})
                return
            now = progress(analysis)
            if now != said and (now["current"] or analysis.is_open):
                yield encode(now)
                said, said_at = now, time.monotonic()
            if not analysis.is_open:
                yield encode(end(analysis))
                return
            if time.monotonic() >= until:
                message = "This stream ends here; the analysis goes on. Ask result_url for its result."
                yield encode({"type": "error", "code": "timeout", "message": message, **_link(start)})
                return
            if time.monotonic() - said_at >= BEAT:
                yield b": waiting\n\n"
                said_at = time.monotonic()
            time.sleep(next(steps, LONGEST_PAUSE))


def _link(start: Event) -> Event:
    return {"result_url": start["result_url"]}


def response(stream: Stream) -> StreamingHttpResponse:
    """An answer that no proxy holds back or keeps."""
    answer = StreamingHttpResponse(stream, content_type="text/event-stream")
    answer["Cache-Control"] = "no-store"
    answer["X-Accel-Buffering"] = "no"
    return answer
