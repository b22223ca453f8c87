"""django-q2's cluster, made to survive the sudden death of any of its processes and to return work when it stops.

The processes of a cluster share queues and events that are protected by locks. A process that is killed, for example
by the kernel when memory runs out, may never release such a lock, and its replacement would wait for it for ever.
Therefore, after a sudden death, all processes of the cluster are replaced together with everything they share: the
sentinel exits, the kernel ends the processes below it, and the main process starts a new sentinel.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from typing import Any

from django.db import connections
from django_q.cluster import Cluster
from django_q.conf import Conf

from inference.jobs import worker

log = logging.getLogger(__name__)

#: Exit code of a sentinel whose cluster has to be replaced.
REPLACE = 75
#: Seconds that the other workers have for returning their analyses before the cluster is replaced.
RELEASE_SECONDS = 2.0
#: Seconds between two attempts to start the cluster.
RETRY_SECONDS = 5.0
#: From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1


def prepare_forks() -> None:
    """Make every process that this one forks, directly or indirectly, end with its parent.

    The sentinel, the only direct child, also watches for children that were killed.
    """
    main = os.getpid()

    def in_child() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, _exit_if_killed if os.getppid() == main else signal.SIG_DFL)

    os.register_at_fork(after_in_child=in_child)


def _exit_if_killed(signum: int, frame: Any) -> None:
    """In the sentinel: a child has ended."""
    # The exit status stays available for django-q2, which replaces processes that ended by themselves.
    child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if child is None or child.si_code not in (os.CLD_KILLED, os.CLD_DUMPED):
        return
    log.warning("Process %d of the cluster was killed; replacing all of them.", child.si_pid)
    worker.stopping.set()
    if Conf.WORKERS > 1:
        time.sleep(RELEASE_SECONDS)
    # An ordinary exit would wait for the threads of queues whose lock may never be released.
    os._exit(REPLACE)


class SupervisedCluster(Cluster):  # django-q2 has no type annotations
    """A cluster that tells its workers to return their analyses before it stops, and that can be started again."""

    is_wanted = True

    def sig_handler(self, signum: int, frame: Any) -> None:
        # Does not wait: the signal may interrupt a transaction that the workers wait for.
        self.is_wanted = False
        self._request_stop()

    def _request_stop(self) -> None:
        worker.stopping.set()
        if self.stop_event:
            self.stop_event.set()

    def start(self) -> int:
        try:
            return int(super().start())
        finally:
            if not self.is_wanted:
                # The signal came before there was an event to set.
                self._request_stop()

    def ensure_running(self) -> None:
        """Start a new sentinel if the last one has ended. If that fails, for example without a broker, log it."""
        if self.sentinel.is_alive() or not self.is_wanted:
            return
        worker.stopping.clear()
        # The new process must not share this one's connections.
        connections.close_all()
        try:
            self.start()
        except RuntimeError as error:
            log.error("The cluster could not be started; trying again. %s", error)
            time.sleep(RETRY_SECONDS)
