"""django-q2's cluster with a heartbeat, a sweep for interrupted work, and a stop that hands back."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import close_old_connections
from django.utils import timezone
from django_q.management.commands.qcluster import Command as QCommand

from inference.jobs import queue, worker
from inference.jobs.cluster import StoppableCluster, die_with_parent
from inference.jobs.signals import housekeeping
from inference.models import Cluster

log = logging.getLogger(__name__)

BEAT_EVERY = 5.0
NICE = 10


def _stand_back() -> None:
    """Who looks at a page on the same machine comes before the network, which takes what is left."""
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        # Sessions are weighed against each other as a whole, unless control groups are (``CPUWeight``, ``cpu_shares``).
        with contextlib.suppress(OSError):
            for _ in range(10):
                with contextlib.suppress(BlockingIOError):
                    Path("/proc/self/autogroup").write_text(str(NICE))
                    return
                # The kernel takes one such change in 100 ms of the whole machine.
                time.sleep(0.1)


class Command(QCommand):  # type: ignore[misc]
    help = "Start the background workers (a django-q2 cluster with heartbeat and sweep)."

    def handle(self, *args: Any, **options: Any) -> None:
        if options["cluster_name"]:
            os.environ["Q_CLUSTER_NAME"] = options["cluster_name"]
        os.register_at_fork(after_in_child=die_with_parent)
        _stand_back()
        cluster = StoppableCluster()
        cluster.start()
        if options["run_once"]:
            cluster.stop()
            return
        self._guard(cluster)

    def _guard(self, cluster: StoppableCluster) -> None:
        """Beat, sweep and look after the cluster until it has stopped."""
        row = Cluster(host=socket.gethostname(), pid=os.getpid())
        while cluster.is_wanted:
            cluster.look_after()
            try:
                row.seen_at, row.fell_back = timezone.now(), worker.fell_back.is_set()
                row.save()
                queue.reclaim_expired()
                housekeeping.send(type(self))
            except Exception:
                log.exception("Heartbeat failed; the database may be away.")
                close_old_connections()
            cluster.sentinel.join(BEAT_EVERY)
        cluster.sentinel.join()
        long_gone = timezone.now() - timedelta(days=1)
        Cluster.objects.filter(pk=row.pk).delete()
        Cluster.objects.filter(seen_at__lt=long_gone).delete()
