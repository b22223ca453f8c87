"""Logs that a machine can read: one JSON object a line, each with the request or analysis it belongs to."""

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

#: The request that this thread is answering; empty elsewhere.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: A proxy's own number for the request is taken over where it looks like one.
FROM_PROXY = re.compile(r"[A-Za-z0-9-]{8,64}")
#: Asked every few seconds by machines; not worth a line.
QUIET = ("/health", "/metrics", "/static/")

#: What opens an account to whoever holds the mail stands in the address.
MAILED = re.compile(r"(/accounts/(?:password/reset/key|confirm-email)/)[^/?]+")

#: "DETAIL:  Key (username)=(alice) already exists.", up to the end of that exception.
DETAIL = re.compile(r"\nDETAIL: .*?(?=\n\n(?:The above exception|During handling)|\Z)", re.DOTALL)

log = logging.getLogger("histopath.request")


def without_key(address: str) -> str:
    """An address as it may be written down: without the key of a mailed link."""
    return MAILED.sub(r"\1…", address)


def without_row(text: str) -> str:
    """An error of PostgreSQL without the values that it quotes."""
    return DETAIL.sub("", text)


class Discreet(logging.Formatter):
    """Traces without the row that PostgreSQL quotes below an error, in which names stand, and without keys."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return without_key(without_row(super().formatException(ei)))


class Json(Discreet, JsonFormatter):
    """For machines: an object a line."""


class Plain(Discreet):
    """For people. What belongs to a line stands behind a bar, so that nothing that is logged looks like a line."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", "\\r").replace("\n", "\n  | ")


class Context(logging.Filter):
    """Adds ``request_id`` to every record, and takes out of it what nobody should read there."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.msg, record.args = without_key(without_row(record.getMessage())), ()
        # Django's own records carry the request, whose address a formatter would write.
        record.__dict__.pop("request", None)
        return True


class RequestMiddleware:
    """Numbers each request, tells the number in the answer, and logs what came of it.

    Neither query nor body, cookie or token is ever written: they may hold names or secrets.
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
            if not request.path.startswith(QUIET):
                facts = _facts(request, answer, started)
                log.info("%s %s %d", request.method, facts["path"], answer.status_code, extra=facts)
            return answer
        finally:
            request_id.reset(token)


def _facts(request: HttpRequest, answer: HttpResponseBase, started: float) -> dict[str, Any]:
    # Not ``request.user``: that may ask the database, which may be what is failing.
    user = request.__dict__.get("_cached_user")
    return {
        "method": request.method,
        # Escaped, so that no address can write a line of its own.
        "path": without_key(request.path.encode("unicode_escape").decode()),
        "status": answer.status_code,
        "milliseconds": round((time.monotonic() - started) * 1000, 1),
        "user_id": getattr(user, "pk", None),
    }


def configuration(form: str, level: str) -> dict[str, Any]:
    """Django's LOGGING: ``form`` is ``plain`` for people or ``json`` for machines."""
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
            # Whatever LOG_LEVEL says: the hashes of the trail's seals are kept outside the database by this alone.
            "cases.audit": {"level": "INFO"},
            # A line a request is for machines; a person at the terminal wants to see what matters.
            "histopath.request": {"level": "INFO" if form == "json" else "WARNING"},
        },
    }
