"""gunicorn's configuration: ``gunicorn -c python:histopath.gunicorn histopath.wsgi``."""

import os
import resource
from typing import Any

bind = f"{os.environ.get('HOST', '0.0.0.0')}:{os.environ.get('PORT', '8000')}"  # noqa: S104  containers listen on all interfaces
workers = int(os.environ.get("WEB_WORKERS", "1"))
threads = int(os.environ.get("WEB_THREADS", "16"))
worker_class = "gthread"
timeout = 120
graceful_timeout = 20
# Longer than people usually pause between two pages: a request fails if its connection is closed as it arrives.
keepalive = 75
# The default heartbeat directory may be on a slow disk; this one is in memory.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
control_socket_disable = True


OPEN_FILES = 65536


def when_ready(server: Any) -> None:
    """Raise the limit on open files where the system allows: an upload of a folder needs one for each image."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def post_worker_init(worker: Any) -> None:
    """Start the decoder with the process, so that the first upload does not wait for it."""
    from cases.images import sandbox

    sandbox.warm_up()


def child_exit(server: Any, worker: Any) -> None:
    """With several processes, metrics are shared through files; merge those of a process that ended."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # not typed
