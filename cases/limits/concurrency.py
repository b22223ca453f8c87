"""The concurrency limit of a web process: how many costly requests it handles at once.

Two resources run out: threads, without which no page is answered, and memory. A costly request holds a slot of
:data:`THREADS` from start to end; it is refused if none is free, because waiting for one would itself take a thread.
While it decodes an image or draws a report, it also holds a slot of :data:`MEMORY`, for which it may wait.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings

from cases.limits.quotas import CapacityExceeded

BUSY = "The server is processing as many images and reports as it can. Try again in a few seconds."


class ConcurrencyLimit:
    """At most ``most()`` slots, two thirds of them for one user, so that others are served."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._changed = threading.Condition()
        #: Slots held by each user, by primary key.
        self._held: Counter[int] = Counter()

    @contextmanager
    def hold(self, user: int, patience: float = 0.0, optional: bool = False) -> Iterator[None]:
        """Hold a slot while the block runs.

        ``user`` is a primary key; ``optional`` is work that the request can do without, for which a third of the slots
        stays free. Raises :class:`CapacityExceeded` if no slot becomes free within ``patience`` seconds.
        """

        def is_free() -> bool:
            most = max(1, self._most())
            if optional:
                most = most * 2 // 3
            return self._held.total() < most and self._held[user] < max(1, most * 2 // 3)

        with self._changed:
            if not self._changed.wait_for(is_free, patience):
                raise CapacityExceeded(BUSY)
            self._held[user] += 1
        try:
            yield
        finally:
            with self._changed:
                self._held -= Counter([user])
                self._changed.notify_all()


#: Requests that keep a thread for long: three quarters of the threads, so that the rest answers pages.
THREADS = ConcurrencyLimit(lambda: settings.WEB_THREADS * 3 // 4)
#: Images that are decoded and reports that are drawn. Decoding one takes up to ``DECODER_MEMORY``.
MEMORY = ConcurrencyLimit(lambda: settings.DECODER_CONCURRENCY)
