"""The case result, derived from the current analyses of the images."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from cases.models import AuditEvent, Case, Slide
from cases.services.locking import lock_case
from cases.services.timeline import record
from inference.engine import verdict as engine_verdict
from inference.models import OPEN, Analysis, ModelVersion, State, Verdict


def is_mixed(slides: Iterable[Slide]) -> bool:
    """Whether the slides were analysed by different model versions or with different overlaps."""
    done = (slide.analysis for slide in slides if slide.analysis and slide.analysis.verdict)
    return len({(analysis.model_version_id, analysis.overlap) for analysis in done}) > 1


def case_model(case: Case, slides: Iterable[Slide] | None = None) -> ModelVersion | None:
    """The model version whose thresholds judge the case: the newest among its finished current analyses.

    ``slides`` are all slides of the case with their analyses, if they are loaded already.
    """
    if slides is not None:
        done = (slide.analysis for slide in slides if slide.analysis and slide.analysis.state == State.DONE)
        return max((analysis.model_version for analysis in done), key=lambda version: version.added_at, default=None)
    current = Analysis.objects.filter(slide__case=case, is_current=True, state=State.DONE)
    return ModelVersion.objects.filter(analyses__in=current).order_by("-added_at").first()


def refresh(case: Case) -> None:
    """Update the case result and the counts from the slides' current analyses. Call it within a transaction.

    The case result is the mean of the calibrated probabilities of the slides that are H&E breast tissue, judged by the
    thresholds of :func:`case_model`.
    """
    # If two workers end analyses of a case at once, the second waits here for the result of the first. Without the
    # lock, each would count the other's analysis as open.
    lock_case(case.pk)
    Case.objects.filter(pk=case.pk).update(**derived(case))


def derived(case: Case) -> dict[str, Any]:
    """The values of :attr:`Case.DERIVED`, computed from the slides' current analyses."""
    current = Analysis.objects.filter(slide__case=case, is_current=True)
    done = list(current.filter(state=State.DONE).values_list("verdict", "probability"))
    verdict: str = ""
    probability: float | None = None
    if done:
        newest = case_model(case)
        assert newest is not None
        inside = [p for said, p in done if said != Verdict.OUT_OF_DOMAIN and p is not None]
        aggregate = engine_verdict.case_verdict(inside, newest.cut_low, newest.cut_high)
        verdict, probability = aggregate.verdict, aggregate.probability_malignant
    verdicts = Counter(said for said, _ in done)
    return {
        "verdict": verdict,
        "probability": probability,
        "slide_count": case.slides.count(),
        "open_count": current.filter(state__in=OPEN).count(),
        "failed_count": current.filter(state=State.FAILED).count(),
        "malignant_count": verdicts[Verdict.MALIGNANT],
        "indeterminate_count": verdicts[Verdict.INDETERMINATE],
        "rejected_count": verdicts[Verdict.OUT_OF_DOMAIN],
    }


def check_aggregate(pk: uuid.UUID, mend: bool = False) -> bool:
    """Whether a case's stored result differs from its analyses. ``mend`` corrects it and records the correction."""
    with transaction.atomic():
        # Locked, so that no worker writes between reading the case and reading its analyses.
        case = Case.objects.for_change().filter(pk=pk).first()
        if case is None or _is_derived(case):
            return False
        if mend:
            refresh(case)
            case.refresh_from_db()
            record(case, AuditEvent.Kind.ANALYSED, detail=f"{_said(case)}, recalculated")
        return True


def _is_derived(case: Case) -> bool:
    expected = derived(case)
    stored = {name: getattr(case, name) for name in Case.DERIVED}
    p, q = expected.pop("probability"), stored.pop("probability")
    # A mean of the same numbers in another order differs in its last bits.
    return expected == stored and (p == q if p is None or q is None else math.isclose(p, q, abs_tol=1e-9))


def natural_order(slide: Slide) -> list[tuple[int, int, str]]:
    """Sort key for file names in natural order: 2 before 10."""
    parts = re.split(r"(\d+)", slide.original_name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def discordant_images(case: Case, slides: Iterable[Slide]) -> list[Slide]:
    """Malignant slides of a case whose result is not malignant, highest probability first."""
    if not case.verdict or case.verdict == Verdict.MALIGNANT:
        return []
    read = [(slide.analysis.probability or 0.0, slide) for slide in slides
            if slide.analysis and slide.analysis.verdict == Verdict.MALIGNANT]  # fmt: skip
    return [slide for _, slide in sorted(read, key=lambda pair: -pair[0])]


def duplicates(slides: Iterable[Slide]) -> list[list[Slide]]:
    """Groups of slides made from the same file, which therefore counts more than once in the case result."""
    by_content: dict[tuple[str, int | None], list[Slide]] = {}
    for slide in slides:
        if slide.analysis and slide.analysis.verdict not in ("", Verdict.OUT_OF_DOMAIN):
            by_content.setdefault((slide.sha256, slide.page), []).append(slide)
    return [same for same in by_content.values() if len(same) > 1]


def verdict_counts(slides: Iterable[Slide]) -> Counter[str]:
    """Number of slides with each result; slides without a result are not counted."""
    return Counter(slide.analysis.verdict for slide in slides if slide.analysis and slide.analysis.verdict)


def on_analysis_ended(sender: type[Analysis], analysis: Analysis, **kwargs: Any) -> None:
    """Update the case result, and record it once no analysis is open."""
    case = analysis.slide.case
    refresh(case)
    case.refresh_from_db()
    if not case.open_count:
        record(case, AuditEvent.Kind.ANALYSED, detail=f"{_said(case)}, {analysis.model_version}")


def _said(case: Case) -> str:
    """The result as the page of the case is headed."""
    return case.headline or case.get_verdict_display() or "no result"
