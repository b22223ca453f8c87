"""Waiting for a worker without taking the server's threads hostage."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence

from django.conf import settings

from cases.models import User
from inference.models import Analysis, State

OPEN = (State.QUEUED, State.RUNNING)
#: Seconds between two looks at the rows: none before a single field can be done, then quick, then calmer.
HEAD_START, FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.08, 0.01, 0.25, 1.1


#: Half of this process's threads may wait or stream, the others stay free for everything else; of that half one part
#: in so many stays for those who hold none.
OTHERS = 4

_lock = threading.Lock()
#: How many slots each person holds, by primary key.
_held: Counter[int] = Counter()


class Slot:
    """Permission to keep a thread waiting. ``taken`` is false where none is left; then nobody may wait.

    Of what one person may take a part stays for others.
    """

    def __init__(self, user: User) -> None:
        self._user = user.pk
        with _lock:
            most = max(1, settings.WEB_THREADS // 2)
            own = most - most // OTHERS
            self.taken = _held.total() < most and _held[self._user] < own
            _held[self._user] += self.taken

    def release(self) -> None:
        """Give it back; any number of times."""
        if self.taken:
            self.taken = False
            with _lock:
                _held[self._user] -= 1
                if not _held[self._user]:
                    del _held[self._user]

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *args: object) -> None:
        self.release()


def pauses() -> list[float]:
    """The growing pauses before the longest one is reached."""
    steps, pause = [HEAD_START], FIRST_PAUSE
    while pause < LONGEST_PAUSE:
        steps.append(pause)
        pause *= GROWTH
    return steps


def wait(ids: Sequence[uuid.UUID], seconds: float) -> bool:
    """Wait until none of the analyses is open; False where time ran out first.

    No transaction is open meanwhile; the thread keeps the one connection that it has anyway.
    """
    until = time.monotonic() + seconds
    steps = iter(pauses())
    while Analysis.objects.filter(pk__in=ids, state__in=OPEN).exists():
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, next(steps, LONGEST_PAUSE)))
    return True


def seconds_to_wait(prefer: str) -> float:
    """What a ``Prefer`` header (RFC 7240) asks for: 0 for ``respond-async``, ``wait=N`` up to our bound."""
    longest = float(settings.API_WAIT_SECONDS)
    wishes = [wish.strip().lower() for wish in re.split("[,;]", prefer)]
    if "respond-async" in wishes:
        return 0.0
    for wish in wishes:
        if found := re.fullmatch(r"wait\s*=\s*\"?(\d{1,6})\"?", wish):
            return min(float(found[1]), longest)
    return longest
