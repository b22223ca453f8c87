"""Progress of a case as it changes, for the page that is open."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator

from cases.models import Case
from cases.services.event_stream import BEAT, STILL_HERE, encode
from cases.services.progress import case_progress

#: Seconds between two looks at the rows, and after which a stream ends; the page then asks again, so
#: that no window left open keeps a thread for ever.
PAUSE = 0.5
LONGEST = 55.0
#: How many times as long as a look takes is waited after it, so that large cases take no more of the machine.
SHARE = 20


def follow(pk: uuid.UUID) -> Generator[bytes, None, None]:
    """Events until no analysis of the case is open any more, the case is gone, or time is up."""
    until = time.monotonic() + LONGEST
    said: object = None
    said_at = 0.0
    while True:
        case = Case.objects.filter(pk=pk).first()
        if case is None:
            return
        began = time.monotonic()
        now = case_progress(case)
        took = time.monotonic() - began
        if now != said:
            yield encode(now)
            said, said_at = now, time.monotonic()
        if not now["open"] or time.monotonic() >= until:
            return
        if time.monotonic() - said_at >= BEAT:
            yield STILL_HERE
            said_at = time.monotonic()
        time.sleep(min(max(PAUSE, SHARE * took), BEAT))
