"""Waiting for results, bounded by the caller and by the server."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence

from django.conf import settings

from inference.models import OPEN, Analysis

#: Seconds between two queries: first as long as a single field takes at least, then short, then growing pauses.
HEAD_START, FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.08, 0.01, 0.25, 1.1


def pauses() -> list[float]:
    """The growing pauses before the longest one is reached."""
    steps, pause = [HEAD_START], FIRST_PAUSE
    while pause < LONGEST_PAUSE:
        steps.append(pause)
        pause *= GROWTH
    return steps


def wait(ids: Sequence[uuid.UUID], seconds: float) -> bool:
    """Wait until none of the analyses is open; False if the time ran out first. Holds no transaction."""
    until = time.monotonic() + seconds
    steps = iter(pauses())
    while Analysis.objects.filter(pk__in=ids, state__in=OPEN).exists():
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, next(steps, LONGEST_PAUSE)))
    return True


def seconds_to_wait(prefer: str) -> float:
    """Seconds to wait by a ``Prefer`` header (RFC 7240): 0 for ``respond-async``, ``wait=N`` up to the limit."""
    longest = float(settings.API_WAIT_SECONDS)
    preferences = [preference.strip().lower() for preference in re.split("[,;]", prefer)]
    if "respond-async" in preferences:
        return 0.0
    for preference in preferences:
        if found := re.fullmatch(r"wait\s*=\s*\"?(\d{1,6})\"?", preference):
            return min(float(found[1]), longest)
    return longest
