"""What every cluster sees to every few seconds and a worker does now and then."""

from __future__ import annotations

from django.core.cache import cache
from django_q.tasks import async_task


def queue_once(function: str, seconds: int) -> None:
    """Have a worker call ``function``, given by its full name, unless one was asked to in the last ``seconds``."""
    key = f"queued-{function}"
    if not cache.add(key, True, seconds):
        return
    try:
        async_task(function, task_name=function.rpartition(".")[2], save=False)
    except Exception:  # raised again; without a message the next call may queue it
        cache.delete(key)
        raise
