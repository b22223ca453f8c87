"""django-q2's cluster with a heartbeat, recovery of interrupted analyses, and a stop that returns unfinished work."""

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
from inference.jobs.cluster import SupervisedCluster, prepare_forks
from inference.jobs.signals import housekeeping
from inference.models import Cluster

log = logging.getLogger(__name__)

#: Seconds between two heartbeats.
HEARTBEAT_SECONDS = 5.0
#: How much lower than that of the web server the CPU priority of workers is.
NICE = 10


def _lower_priority() -> None:
    """Give the web server on the same machine priority over the workers."""
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        # The scheduler weighs sessions as a whole, unless control groups are in use (``CPUWeight``, ``cpu_shares``).
        with contextlib.suppress(OSError):
            for _ in range(10):
                with contextlib.suppress(BlockingIOError):
                    Path("/proc/self/autogroup").write_text(str(NICE))
                    return
                # The kernel accepts one such change every 100 ms for the whole machine.
                time.sleep(0.1)


class Command(QCommand):  # django-q2 has no type annotations
    help = "Start the background workers: a django-q2 cluster with a heartbeat and recovery of interrupted analyses."

    def handle(self, *args: Any, **options: Any) -> None:
        if options["cluster_name"]:
            os.environ["Q_CLUSTER_NAME"] = options["cluster_name"]
        prepare_forks()
        _lower_priority()
        cluster = SupervisedCluster()
        cluster.start()
        if options["run_once"]:
            cluster.stop()
            return
        self._supervise(cluster)

    def _supervise(self, cluster: SupervisedCluster) -> None:
        """Write heartbeats, recover interrupted analyses and keep the cluster running until it is told to stop."""
        row = Cluster(host=socket.gethostname(), pid=os.getpid())
        while cluster.is_wanted:
            cluster.ensure_running()
            try:
                row.seen_at, row.fell_back = timezone.now(), worker.fell_back.is_set()
                row.save()
                queue.reclaim_expired()
                housekeeping.send(type(self))
            except Exception:  # whatever fails, keep running: the database may be back at the next heartbeat
                log.exception("Heartbeat failed; the database may be unavailable.")
                close_old_connections()
            cluster.sentinel.join(HEARTBEAT_SECONDS)
        cluster.sentinel.join()
        Cluster.objects.filter(pk=row.pk).delete()
        Cluster.objects.filter(seen_at__lt=timezone.now() - timedelta(days=1)).delete()
