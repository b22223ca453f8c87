"""gunicorn's configuration: ``gunicorn -c python:histopath.gunicorn histopath.wsgi``."""

import os

bind = f"{os.environ.get('HOST', '0.0.0.0')}:{os.environ.get('PORT', '8000')}"  # noqa: S104  containers listen on all interfaces
workers = int(os.environ.get("WEB_WORKERS", "1"))
threads = int(os.environ.get("WEB_THREADS", "16"))
worker_class = "gthread"
timeout = 120
graceful_timeout = 20
keepalive = 5
# The default heartbeat directory may be a disk that stalls; this one is memory.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
accesslog = "-" if os.environ.get("ACCESS_LOG") else None
control_socket_disable = True
