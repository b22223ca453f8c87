"""Whose turn it is: start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996), its unit of work a single field.

The turn of an analysis is its place on a virtual time: where the work of the same person before it ends, but not before
what is begun at the moment. The lowest turn is next. What was begun is remembered here and not read from the analyses,
which people may delete.
"""

from __future__ import annotations

import math

from django.db.models import Max

from inference.engine.grid import Grid
from inference.models import OPEN, Analysis, UserQueueState

#: Patches of a single field of 700x460 pixels, none of which overlaps another more than it must.
FIELD = 12


def work(width: int, height: int, overlap: float) -> int:
    """How much an image of so many pixels takes, counted in single fields, at least one."""
    return math.ceil(len(Grid(width, height, overlap)) / FIELD)


def next_turn(person: int) -> int:
    """The turn of this person's next analysis. Called in a transaction, until whose end others of theirs wait."""
    lane, _ = UserQueueState.objects.select_for_update().get_or_create(person=person)
    # What waits is not begun: who deletes it has its turns back.
    waiting = Analysis.objects.filter(person=person, finished_at=None, state__in=OPEN).order_by("-turn")
    last = waiting.values_list("turn", "slide__width", "slide__height", "overlap").first()
    own = last[0] + work(*last[1:]) if last else 0
    return max(_now(), lane.end, own)


def _now() -> int:
    """The highest turn that was begun; where nothing is open, the end of all work, so that all begin alike."""
    if not any(Analysis.objects.filter(state=state).exists() for state in OPEN):
        # For whoever asks next, too, before anything is begun.
        _advance(UserQueueState.ALL, UserQueueState.objects.aggregate(Max("end"))["end__max"] or 0)
    return UserQueueState.objects.get_or_create(person=UserQueueState.ALL)[0].end


def begin(analysis: Analysis) -> None:
    """Note that an analysis, whose slide is at hand, is begun."""
    _advance(UserQueueState.ALL, analysis.turn)
    if analysis.person is not None:
        taken = work(analysis.slide.width, analysis.slide.height, analysis.overlap)
        _advance(analysis.person, analysis.turn + taken)


def _advance(person: int, end: int) -> None:
    if not UserQueueState.objects.filter(person=person, end__lt=end).update(end=end):
        UserQueueState.objects.get_or_create(person=person, defaults={"end": end})
