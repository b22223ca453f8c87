"""django-q2's cluster, made to outlive the death of any of its processes and to hand work back when it stops.

Its processes share queues, events and counters, each with a lock. One that is killed (by the kernel where memory runs
out, say) may hold such a lock, and whatever takes its place would wait for it for ever. So after a sudden death all of
them are replaced together with what they shared: the others hand back what they hold, and a new sentinel starts.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
from typing import Any

import django_q.cluster
from django.db import connections
from django_q.cluster import Cluster, Sentinel

from inference.jobs import worker

log = logging.getLogger(__name__)

#: How a sentinel ends whose processes are to be replaced.
REPLACE = 75
#: Seconds that the other workers have to hand back, and after which a sentinel that gives no sign is replaced.
HAND_BACK, SILENCE = 5.0, 60.0
#: Seconds between two attempts to start one.
RETRY = 5.0
#: From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1

#: When the sentinel was last seen at work, as ``time.monotonic``. Without a lock, as it is told across processes.
_seen_at: Any = multiprocessing.RawValue(ctypes.c_double, 0.0)


def die_with_parent() -> None:
    """In each process that the cluster forks: none of them outlives it, even where it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class CarefulSentinel(Sentinel):  # type: ignore[misc]
    """Replaces a process that ended by itself alone; where one was killed it gives up, and all are replaced."""

    def status(self) -> Any:
        _seen_at.value = time.monotonic()
        return super().status()

    def reincarnate(self, process: Any) -> None:
        # The pusher ends where the broker fails, workers when they are recycled; killed ones have a code below zero.
        by_itself = process.exitcode is not None and process.exitcode >= 0
        is_over_time = process not in (self.monitor, self.pusher) and process.timer.get_obj().value == 0
        if by_itself or is_over_time:
            super().reincarnate(process)
            return
        log.warning("A process of the cluster was killed; replacing all of them.")
        worker.stopping.set()
        until = time.monotonic() + HAND_BACK
        others = [one for one in self.pool if one is not process]
        while time.monotonic() < until and any(one.is_alive() and one.timer.get_obj().value > 0 for one in others):
            time.sleep(0.1)
        for one in (*self.pool, self.monitor, self.pusher):
            one.kill()
        # Not by an exception: that would wait for the queues' threads.
        os._exit(REPLACE)


# It is made by name there.
django_q.cluster.Sentinel = CarefulSentinel


class StoppableCluster(Cluster):  # type: ignore[misc]
    """Tells its workers to hand back what they hold before it waits for them."""

    is_wanted = True

    def sig_handler(self, signum: int, frame: Any) -> None:
        # Told, not waited for: the signal may have come in the middle of a transaction that the workers wait for.
        if self.is_wanted:
            self.is_wanted = False
            self._tell()

    def _tell(self) -> None:
        worker.stopping.set()
        if self.stop_event:
            self.stop_event.set()

    def start(self) -> int:
        try:
            return int(super().start())
        finally:
            if not self.is_wanted:
                # Asked to stop when there was nothing to be told of it yet.
                self._tell()

    def look_after(self) -> None:
        """Start anew what gave up, ended or hangs. Where that fails, as without a broker, the next call tries again."""
        if self.sentinel.is_alive():
            if time.monotonic() - _seen_at.value <= SILENCE:
                return
            log.error("The cluster gives no sign; replacing it.")
            self.sentinel.kill()
            self.sentinel.join()
        if not self.is_wanted:
            return
        worker.stopping.clear()
        _seen_at.value = time.monotonic()
        # A fork that closed what it inherited would close it for this process too.
        connections.close_all()
        try:
            self.start()
        except RuntimeError as error:
            log.error("The cluster could not be started; trying again. %s", error)
            time.sleep(RETRY)
