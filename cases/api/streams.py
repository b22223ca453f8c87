"""Server-sent events about the progress of one analysis."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from django.conf import settings

from inference.models import Analysis

from .event_stream import BEAT, STILL_HERE, encode
from .waiting import LONGEST_PAUSE, pauses

Event = dict[str, Any]


def follow(
    load: Callable[[], Analysis],
    start: Event,
    progress: Callable[[Analysis], Event],
    end: Callable[[Analysis], Event],
) -> Generator[bytes, None, None]:
    """Yield ``start``, then ``progress(analysis)`` whenever it changes, then ``end(analysis)``."""
    yield encode(start)
    until = time.monotonic() + settings.API_STREAM_SECONDS
    said, said_at = start, time.monotonic()
    steps = iter(pauses())
    while True:
        try:
            analysis = load()
        except Analysis.DoesNotExist:
            yield encode({"type": "error", "code": "not_found", "message": "The image was deleted in the meantime."})
            return
        now = progress(analysis)
        if now != said and (now["current"] or analysis.is_open):
            yield encode(now)
            said, said_at = now, time.monotonic()
        if not analysis.is_open:
            yield encode(end(analysis))
            return
        if time.monotonic() >= until:
            message = "The stream ends here, and the analysis continues. Poll result_url for the result."
            yield encode({"type": "error", "code": "timeout", "message": message, "result_url": start["result_url"]})
            return
        if time.monotonic() - said_at >= BEAT:
            yield STILL_HERE
            said_at = time.monotonic()
        time.sleep(next(steps, LONGEST_PAUSE))
