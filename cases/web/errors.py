"""Error pages: rate limits, conflicting changes, and a database or file store that is unavailable."""

from __future__ import annotations

import sys

from django.db import DatabaseError, DataError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.defaults import server_error

from cases.services.outages import RETRY_SECONDS, STORAGE, is_outdated

#: The longest period of the rate limits on the account pages.
RATE_SECONDS = 300
#: Not a template: rendering one loads the user, which needs the database.
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1>
<p>{words}</p></html>"""
AWAY = "The {what} is not responding. Your data is safe. Try again in a few seconds."
CHANGED = "This item was changed or deleted in the meantime; nothing was saved.\nGo back and reload the page."
UNREADABLE = "The form contains an unsupported character, such as a null byte; nothing was saved."


def too_often(request: HttpRequest) -> HttpResponse:
    """allauth's response to too many requests, with a ``Retry-After`` that allauth does not send."""
    answer = render(request, "429.html", status=429)
    answer["Retry-After"] = str(RATE_SECONDS)
    return answer


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler for uncaught exceptions: 400, 409, 503 or 500, depending on the cause."""
    error = sys.exc_info()[1]
    if isinstance(error, DataError):
        return HttpResponse(PAGE.format(title="Unsupported character", words=UNREADABLE), status=400)
    if isinstance(error, DatabaseError) and is_outdated(error):
        return HttpResponse(PAGE.format(title="Changed in the meantime", words=CHANGED), status=409)
    what = "database" if isinstance(error, DatabaseError) else ""
    if isinstance(error, OSError) and error.errno in STORAGE:
        what = "file store"
    if not what:
        return server_error(request)
    page = PAGE.format(title="Temporarily unavailable", words=AWAY.format(what=what))
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_SECONDS)})
