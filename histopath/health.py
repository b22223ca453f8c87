"""Whether this process, and the whole, can do their work."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference import queue, registry


@require_safe
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """This process answers; container checks use it."""
    return JsonResponse({"status": "alive"})


@require_safe
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """Database, worker and model, each by itself; 503 when an image could not be analysed now."""
    checks = {"database": False, "worker": False, "model": False}
    try:
        checks["worker"] = queue.worker_alive()
        checks["database"] = True
        checks["model"] = registry.is_usable()
    except DatabaseError:
        pass
    healthy = all(checks.values())
    return JsonResponse(
        {
            "status": "healthy" if healthy else "unhealthy",
            "model_loaded": checks["model"] and checks["worker"],
            "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
            "checks": checks,
        },
        status=200 if healthy else 503,
    )
