"""The order of the queue: start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996).

Each analysis has a virtual start time, stored in its field ``turn``. It is the virtual finish time of the same user's
previous analysis, but at least the current virtual time, which is the highest start time of any analysis begun so far.
The analysis with the lowest start time is next. Virtual time is counted in fields (images of 700x460 pixels). It is
stored in :class:`inference.models.UserQueueState` and not derived from the analyses, which users may delete.
"""

from __future__ import annotations

import math

from django.db.models import Max

from inference.engine.grid import Grid
from inference.models import OPEN, Analysis, UserQueueState

#: Patches of a field of 700x460 pixels without requested overlap.
FIELD = 12


def work(width: int, height: int, overlap: float) -> int:
    """The cost of an image of ``width`` x ``height`` pixels in fields, rounded up; at least 1."""
    return math.ceil(len(Grid(width, height, overlap)) / FIELD)


def next_turn(person: int) -> int:
    """The virtual start time of this user's next analysis.

    Must be called in a transaction: until it ends, other calls for the same user wait.
    """
    state, _ = UserQueueState.objects.select_for_update().get_or_create(person=person)
    # Queued analyses count only while they exist: deleting them frees their place.
    waiting = Analysis.objects.filter(person=person, finished_at=None, state__in=OPEN).order_by("-turn")
    last = waiting.values_list("turn", "slide__width", "slide__height", "overlap").first()
    own = last[0] + work(*last[1:]) if last else 0
    return max(_now(), state.end, own)


def _now() -> int:
    """The current virtual time. In an empty queue it advances to the end of all work, so that all users are equal."""
    if not any(Analysis.objects.filter(state=state).exists() for state in OPEN):
        # Stored, because the next call may come before any analysis has begun.
        _advance(UserQueueState.ALL, UserQueueState.objects.aggregate(Max("end"))["end__max"] or 0)
    return UserQueueState.objects.get_or_create(person=UserQueueState.ALL)[0].end


def begin(analysis: Analysis) -> None:
    """Advance virtual time because this analysis begins. Its slide must be loaded."""
    _advance(UserQueueState.ALL, analysis.turn)
    if analysis.person is not None:
        taken = work(analysis.slide.width, analysis.slide.height, analysis.overlap)
        _advance(analysis.person, analysis.turn + taken)


def _advance(person: int, end: int) -> None:
    if not UserQueueState.objects.filter(person=person, end__lt=end).update(end=end):
        UserQueueState.objects.get_or_create(person=person, defaults={"end": end})
