"""The result of a case, derived from the current analyses of its images."""

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
    """Whether they were judged by several model versions, or with several overlaps."""
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
    """Derive the case's aggregate from its slides' current analyses.

    The mean of the calibrated probabilities of the in-domain slides, judged by the cut points of the
    newest model version among them. Called within a transaction.
    """
    # Of two workers that end analyses of one case, the second waits here and then sees what the first wrote; without
    # the lock, both would count the other's analysis as still open.
    lock_case(case.pk)
    Case.objects.filter(pk=case.pk).update(**derived(case))


def derived(case: Case) -> dict[str, Any]:
    """The values of :attr:`Case.DERIVED`, as the slides' current analyses have it."""
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
    """Whether a case's aggregate is other than what its analyses say. ``mend`` derives it anew and notes that."""
    with transaction.atomic():
        # Held, so that no worker writes between the two looks.
        case = Case.objects.for_change().filter(pk=pk).first()
        if case is None or _is_derived(case):
            return False
        if mend:
            refresh(case)
            case.refresh_from_db()
            record(
                case, AuditEvent.Kind.ANALYSED, detail=f"{case.get_verdict_display() or 'no verdict'}, counted again"
            )
        return True


def _is_derived(case: Case) -> bool:
    wanted = derived(case)
    kept = {name: getattr(case, name) for name in Case.DERIVED}
    p, q = wanted.pop("probability"), kept.pop("probability")
    # The mean of the same numbers in another order differs in its last bits.
    return wanted == kept and (p == q if p is None or q is None else math.isclose(p, q, abs_tol=1e-9))


def natural_order(slide: Slide) -> list[tuple[int, int, str]]:
    """Sort key for file names in natural order: 2 before 10."""
    parts = re.split(r"(\d+)", slide.original_name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def discordant_images(case: Case, slides: Iterable[Slide]) -> list[Slide]:
    """Slides that read malignant in a case whose mean does not, most suspicious first: a mean must hide none."""
    if not case.verdict or case.verdict == Verdict.MALIGNANT:
        return []
    read = [(slide.analysis.probability or 0.0, slide) for slide in slides
            if slide.analysis and slide.analysis.verdict == Verdict.MALIGNANT]  # fmt: skip
    return [slide for _, slide in sorted(read, key=lambda pair: -pair[0])]


def duplicates(slides: Iterable[Slide]) -> list[list[Slide]]:
    """Slides of a case that were made from the same file, so that it counts more than once in the mean."""
    by_content: dict[str, list[Slide]] = {}
    for slide in slides:
        if slide.analysis and slide.analysis.verdict not in ("", Verdict.OUT_OF_DOMAIN):
            by_content.setdefault(slide.sha256, []).append(slide)
    return [same for same in by_content.values() if len(same) > 1]


def verdict_counts(slides: Iterable[Slide]) -> Counter[str]:
    """How many slides have which verdict; those without a result are not counted."""
    return Counter(slide.analysis.verdict for slide in slides if slide.analysis and slide.analysis.verdict)


def on_analysis_ended(sender: type[Analysis], analysis: Analysis, **kwargs: Any) -> None:
    """Keep the case's aggregate true to its analyses."""
    case = analysis.slide.case
    refresh(case)
    case.refresh_from_db()
    if not case.open_count:
        said = case.get_verdict_display() or "no verdict"
        record(case, AuditEvent.Kind.ANALYSED, detail=f"{said}, {analysis.model_version}")
