"""Progress of analyses, for open pages."""

from __future__ import annotations

from typing import Any

from cases.models import Case, Slide
from inference.jobs import queue
from inference.models import OPEN, Analysis, State


def slide_progress(slide: Slide) -> dict[str, Any]:
    """State of one slide; see :func:`case_progress`."""
    analysis = slide.analysis
    if analysis is None:
        return {"id": str(slide.pk), "state": "none"}
    return {
        "id": str(slide.pk),
        "state": analysis.state,
        "patches_done": analysis.patches_done,
        "patches_total": analysis.patches_total,
        "percent": analysis.percent,
        "verdict": analysis.verdict,
        "error": analysis.error,
    }


def case_progress(case: Case, slides: list[Slide] | None = None) -> dict[str, Any]:
    """State of a case and each of its slides.

    ``ahead`` is the number of other analyses queued before the first of this case; ``worker_alive`` is whether any
    worker runs. ``slides`` are all slides of the case with their analyses, if they are loaded already.
    """
    if slides is None:
        slides = list(Slide.objects.filter(case=case).with_analysis())
    first = _first_waiting([slide.analysis for slide in slides if slide.analysis])
    states = [slide_progress(slide) for slide in slides]
    open_count = sum(state["state"] in OPEN for state in states)
    return {
        "state": case.state,
        "verdict": case.verdict,
        "open": open_count,
        "done": len(states) - open_count,
        "total": len(states),
        "percent": _percent(states),
        "ahead": queue.position(first) if first else 0,
        "worker_alive": queue.worker_alive(),
        "slides": states,
    }


def _first_waiting(analyses: list[Analysis]) -> Analysis | None:
    waiting = [analysis for analysis in analyses if analysis.state == State.QUEUED]
    return min(waiting, key=lambda analysis: (analysis.turn, analysis.queued_at), default=None)


def _percent(states: list[dict[str, Any]]) -> float:
    """Mean progress of the slides, 0 to 100; ended analyses count as 100."""
    shares = [s["percent"] if s["state"] in OPEN else 100 for s in states]
    return round(sum(shares) / len(shares), 1) if shares else 0.0
