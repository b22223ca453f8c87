"""How much may wait: what is over it is refused at the door, with a time to come back, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from cases.limits.concurrency import ConcurrencySlot, Kind
from cases.models import Case, User
from inference.jobs import queue

#: Seconds that one waiting analysis is reckoned with in ``Retry-After``, and the bounds of that.
SECONDS_EACH = 2
SOONEST, LATEST = 10, 600
A_MOMENT = 2


class CapacityExceeded(Exception):
    """Too much waits already; ``retry_after`` is in seconds, few where nothing waits but a moment is asked for."""

    def __init__(self, message: str, too_many: int = 0) -> None:
        super().__init__(message)
        self.retry_after = min(max(SECONDS_EACH * too_many, SOONEST), LATEST) if too_many else A_MOMENT


def require_room(owner: User, wanted: int, besides: int = 0) -> None:
    """Raise :class:`CapacityExceeded` where so many more analyses are too many, for this person or for all.

    A person who has nothing open, besides so many of the same upload, is let in up to the limit of all, however
    large the upload is.
    """
    if wanted <= 0:
        return
    if wanted > settings.MAX_PENDING:
        raise CapacityExceeded(
            f"{wanted} images at once are too many; the server takes {settings.MAX_PENDING}.", wanted
        )
    everybody = queue.open_count()
    if everybody + wanted > settings.MAX_PENDING:
        raise CapacityExceeded(
            f"{everybody} images are waiting to be analysed, as many as the server takes. Try again later.",
            everybody + wanted - settings.MAX_PENDING,
        )
    own = queue.open_count(owner.pk)
    if own > besides and own + wanted > settings.MAX_PENDING_PER_USER:
        raise CapacityExceeded(
            f"{own} of your images are still waiting; at most {settings.MAX_PENDING_PER_USER} may at a time. "
            "Try again when some are done.",
            own + wanted - settings.MAX_PENDING_PER_USER,
        )


def room(owner: User) -> int:
    """How many more analyses this person may have open now; none where it is less than one."""
    return min(settings.MAX_PENDING - queue.open_count(), settings.MAX_PENDING_PER_USER - queue.open_count(owner.pk))


def is_received(case: Case) -> bool:
    """False while a program's call still stores images of the case: it may yet be cut off, and go."""
    return not case.submissions.filter(receiving_until__isnull=False).exists()


def require_received(case: Case) -> None:
    """Raise :class:`CapacityExceeded` where the case is not received yet."""
    if not is_received(case):
        raise CapacityExceeded("The images of this case are still being received. Try again in a moment.")


@contextmanager
def require_slot(user: User, kind: Kind, busy: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a concurrency slot while the block runs.

    Raises :class:`CapacityExceeded` with the message ``busy`` if none is free.
    """
    with ConcurrencySlot(user, kind, patience) as turn:
        if not turn.taken:
            raise CapacityExceeded(busy)
        yield


def answer(request: HttpRequest, error: CapacityExceeded) -> HttpResponse:
    """429 as a page, or as JSON for the page's script."""
    headers = {"Retry-After": str(error.retry_after)}
    if request.accepts("text/html"):
        found = render(request, "429.html", {"reason": str(error)}, status=429)
        found["Retry-After"] = headers["Retry-After"]
        return found
    problem = {"filename": "", "code": "busy", "reason": str(error)}
    return JsonResponse({"slides": [], "errors": [problem]}, status=429, headers=headers)
