"""Logging as text or as JSON lines, with the request that each line belongs to and without secrets."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from pythonjsonlogger.json import JsonFormatter

#: Id of the request that this thread is answering; empty outside requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: An ``X-Request-ID`` set by a proxy is used if it has this form.
FROM_PROXY = re.compile(r"[A-Za-z0-9-]{8,64}")
#: Requested by machines every few seconds, so not logged.
UNLOGGED = ("/health", "/metrics", "/static/")

#: Paths of e-mailed links end with a key that grants access to an account.
EMAILED_LINK = re.compile(r"(/accounts/(?:password/reset/key|confirm-email)/)[^/?]+")

#: PostgreSQL's "DETAIL:  Key (username)=(alice) already exists.", up to the end of that exception.
DETAIL = re.compile(r"\nDETAIL: .*?(?=\n\n(?:The above exception|During handling)|\Z)", re.DOTALL)

log = logging.getLogger("histopath.request")


def redact_link_key(text: str) -> str:
    """The text without the keys of e-mailed links."""
    return EMAILED_LINK.sub(r"\1…", text)


def redact_row_values(text: str) -> str:
    """The text without the row values that PostgreSQL quotes in its errors."""
    return DETAIL.sub("", text)


class Redacting(logging.Formatter):
    """Tracebacks without the row values that PostgreSQL quotes, which may be names, and without link keys."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return redact_link_key(redact_row_values(super().formatException(ei)))


class Json(Redacting, JsonFormatter):
    """One JSON object per line."""


class Plain(Redacting):
    """Text. Continuation lines start with a bar, so that logged text can't imitate a log line."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", "\\r").replace("\n", "\n  | ")


class Context(logging.Filter):
    """Adds ``request_id`` to every record and removes secrets from its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.msg, record.args = redact_link_key(redact_row_values(record.getMessage())), ()
        # Django's own records carry the request, whose full URL a formatter would write.
        record.__dict__.pop("request", None)
        return True


class RequestMiddleware:
    """Gives each request an id, returns it in ``X-Request-ID``, and logs the outcome.

    Query string, body, cookies and tokens are never logged: they may hold names or secrets.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get("X-Request-ID", "")
        number = given if FROM_PROXY.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(number)
        started = time.monotonic()
        try:
            answer = self.get_response(request)
            answer["X-Request-ID"] = number
            if not request.path.startswith(UNLOGGED):
                facts = _facts(request, answer, started)
                log.info("%s %s %d", request.method, facts["path"], answer.status_code, extra=facts)
            return answer
        finally:
            request_id.reset(token)


def _facts(request: HttpRequest, answer: HttpResponseBase, started: float) -> dict[str, Any]:
    # ``request.user`` could query the database, which may be the cause of a failure.
    user = request.__dict__.get("_cached_user")
    return {
        "method": request.method,
        # Escaped, so that a URL can't insert a log line.
        "path": redact_link_key(request.path.encode("unicode_escape").decode()),
        "status": answer.status_code,
        "milliseconds": round((time.monotonic() - started) * 1000, 1),
        "user_id": getattr(user, "pk", None),
    }


def configuration(form: str, level: str) -> dict[str, Any]:
    """Django's LOGGING setting; ``form`` is ``plain`` (text) or ``json``, ``level`` that of the root logger."""
    formatters = {
        "plain": {"()": "histopath.logging.Plain", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {
            "()": "histopath.logging.Json",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"context": {"()": "histopath.logging.Context"}},
        "formatters": formatters,
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": form, "filters": ["context"]}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django-q": {"handlers": ["console"], "level": "WARNING", "propagate": False},
            "weasyprint": {"level": "WARNING"},
            # Independent of LOG_LEVEL: the log is the only copy of the audit checkpoints outside the database.
            "cases.audit": {"level": "INFO"},
            # One line per request is useful to log collectors, but hides other messages on a terminal.
            "histopath.request": {"level": "INFO" if form == "json" else "WARNING"},
        },
    }
