"""Health checks of this process and of the whole installation."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponsePermanentRedirect, JsonResponse
from django.middleware import common
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from inference import registry
from inference.jobs import queue

log = logging.getLogger(__name__)

PROBES = ("/health", "/health/live")


class CommonMiddleware(common.CommonMiddleware):
    """Django's, but without a host check for probes: container engines and load balancers use IP addresses."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path in PROBES else super().process_request(request)


REASONS = {
    "database_unavailable": "The database does not answer.",
    "health_unknown": "The health check itself failed; the server log has the cause.",
    "not_working": "Jobs are queued but not processed. See the worker's log; restart the worker, and Redis if used.",
    "no_worker": "No background worker is running. Start one: manage.py qcluster.",
    "no_model": "No model is active. Add and activate one: manage.py model add, manage.py model activate.",
    "model_unusable": "The active model's file is missing, damaged or not the one that was registered.",
}
#: Problems that make work slower, not impossible.
WARNINGS = {
    "fp32_fallback": "A faster form of the model (INT8 or bf16) is damaged or failed its check, so a worker may use a "
    "slower one. Results are correct but may take longer. The worker's log and manage.py verify name the cause.",
}


@csrf_exempt
@require_safe
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """Liveness: 200 whenever this process answers. For container checks."""
    return JsonResponse({"status": "alive"})


@csrf_exempt
@require_safe
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """Readiness: the state of database, worker and model; 503 if an image could not be analysed now."""
    checks = {"database": False, "worker": False, "model": False}
    codes = []
    warnings = []
    try:
        checks["worker"] = queue.worker_alive()
        checks["database"] = True
        if not checks["worker"]:
            codes.append("no_worker")
        elif queue.is_stalled():
            codes.append("not_working")
        if queue.has_fallback():
            warnings.append("fp32_fallback")
        checks["model"] = registry.is_usable()
        if not checks["model"]:
            codes.append("model_unusable" if registry.has_active() else "no_model")
    except DatabaseError:
        log.exception("The database failed.")
        checks = dict.fromkeys(checks, False)
        codes = ["database_unavailable"]
    except Exception:  # logged; a probe gets an answer whatever fails
        log.exception("The health check failed.")
        codes.append("health_unknown")
    healthy = not codes
    return JsonResponse(
        {
            "status": "healthy" if healthy else "unhealthy",
            "model_loaded": checks["model"] and checks["worker"],
            "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
            "checks": checks,
            "problems": [{"code": code, "detail": REASONS[code]} for code in codes],
            "warnings": [{"code": code, "detail": WARNINGS[code]} for code in warnings],
        },
        status=200 if healthy else 503,
    )
