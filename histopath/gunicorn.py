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
# Longer than people pause between two pages: a connection that is closed just when the next request comes fails it.
keepalive = 75
# The default heartbeat directory may be a disk that stalls; this one is memory.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
control_socket_disable = True


OPEN_FILES = 65536


def when_ready(server: Any) -> None:
    """More open files than a shell gives, where the system allows: a folder being uploaded takes one for each image."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))


def post_worker_init(worker: Any) -> None:
    """The decoder starts with the process, so that the first upload need not wait for it."""
    from cases.images import sandbox

    sandbox.warm_up()


def child_exit(server: Any, worker: Any) -> None:
    """With several processes their figures lie in files; those of one that ended are folded in."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # not typed
