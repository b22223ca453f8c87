"""How many analyses may wait, of one user and of all. More are refused with a time to try again; nothing is stored."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from cases.models import Case, User
from inference.jobs import queue

#: ``Retry-After`` in seconds: for each analysis above the quota, within bounds; and where no quota is exceeded.
SECONDS_EACH = 2
SOONEST, LATEST = 10, 600
A_MOMENT = 2


class CapacityExceeded(Exception):
    """The server is busy, or ``too_many`` analyses are above a quota. ``retry_after`` is in seconds."""

    def __init__(self, message: str, too_many: int = 0) -> None:
        super().__init__(message)
        self.retry_after = min(max(SECONDS_EACH * too_many, SOONEST), LATEST) if too_many else A_MOMENT


def require_room(owner: User, wanted: int) -> None:
    """Raise :class:`CapacityExceeded` if ``wanted`` more analyses exceed the quota of the user or of all.

    A user who has no open analyses may exceed the user's quota with one upload. Nothing is locked: requests that run
    at the same moment do not count each other's images.
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
    if own and own + wanted > settings.MAX_PENDING_PER_USER:
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


def answer(request: HttpRequest, error: CapacityExceeded) -> HttpResponse:
    """429 as a page, or as JSON for the page's script."""
    headers = {"Retry-After": str(error.retry_after)}
    if request.accepts("text/html"):
        found = render(request, "429.html", {"reason": str(error)}, status=429)
        found["Retry-After"] = headers["Retry-After"]
        return found
    problem = {"filename": "", "code": "busy", "reason": str(error)}
    return JsonResponse({"slides": [], "errors": [problem]}, status=429, headers=headers)
