"""What a person reads when something underneath is away: 503 and when to try again, not a crash."""

from __future__ import annotations

import sys

from django.db import DatabaseError, DataError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.defaults import server_error

from cases.services.outages import RETRY_SECONDS, STORAGE, is_outdated

#: The longest time that one of the account pages' rates is counted over.
RATE_SECONDS = 300
#: No template: rendering one asks for the user, and so for the database.
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1>
<p>{words}</p></html>"""
AWAY = "The {what} can’t be reached. Nothing that was accepted is lost. Try again in a few seconds."
CHANGED = (
    "What this was about was changed or deleted while it was answered, so nothing was recorded.\n"
    "Go back and look again."
)
UNREADABLE = "What was sent holds a value that can’t be kept, such as a zero byte, so nothing was recorded."


def too_often(request: HttpRequest) -> HttpResponse:
    """What allauth answers with where its pages are asked for too often; it names no time itself."""
    answer = render(request, "429.html", status=429)
    answer["Retry-After"] = str(RATE_SECONDS)
    return answer


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler for whatever a view or middleware raises and nobody catches."""
    error = sys.exc_info()[1]
    if isinstance(error, DataError):
        return HttpResponse(PAGE.format(title="Not understood", words=UNREADABLE), status=400)
    if isinstance(error, DatabaseError) and is_outdated(error):
        return HttpResponse(PAGE.format(title="Changed meanwhile", words=CHANGED), status=409)
    what = "database" if isinstance(error, DatabaseError) else ""
    if isinstance(error, OSError) and error.errno in STORAGE:
        what = "file store"
    if not what:
        return server_error(request)
    page = PAGE.format(title="Not available at the moment", words=AWAY.format(what=what))
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_SECONDS)})
