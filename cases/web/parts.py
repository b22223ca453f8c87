"""The parts of the pages of a case and a slide that change while images are analysed."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.urls import reverse

from cases import services
from cases.images import tiles
from cases.models import Case, Slide
from cases.reporting import charts, text
from cases.web.live import Part
from cases.web.views.access import SignedInRequest
from inference.engine.grid import PATCH
from inference.engine.patchmap import colour_table
from inference.jobs import queue
from inference.models import Analysis, PatchTable, State, Verdict

#: Sort orders of a case's images, besides by name.
ORDERS = ("added", "high", "low")
#: Patches in each of the two lists of a slide's page.
LISTED = 6
#: Of the most suspicious patches, so many are outlined in the viewer.
MARKED = 3
#: Images of a case on one page.
PAGE = 48
#: Up to this many images stand on the scale as dots; more would overlap and are drawn as a histogram.
DOTS = 20
#: With fewer images than this, a case needs no filter.
FEW = 9
FAILED = "failed"
CHOICES = [*Verdict.choices, (FAILED, "Failed")]


def order_slides(slides: list[Slide], order: str) -> list[Slide]:
    """Slides by name, by time added, or by probability; those without a probability come last."""
    if order == "added":
        return slides
    if order in ("high", "low"):
        sign = -1 if order == "high" else 1

        def key(slide: Slide) -> tuple[bool, float]:
            found = slide.analysis
            p = found.probability if found and found.verdict != Verdict.OUT_OF_DOMAIN else None
            return (p is None, sign * (p or 0.0))

        return sorted(slides, key=key)
    return sorted(slides, key=services.natural_order)


def _said(slide: Slide) -> str:
    """The result of a slide, or ``failed``; empty while it has neither."""
    found = slide.analysis
    return (found.verdict or (FAILED if found.state == State.FAILED else "")) if found else ""


def listed(slides: list[Slide], request: SignedInRequest) -> dict[str, Any]:
    """The images of a case that its page shows, and what they were chosen by: ``order``, ``show``, ``page``."""
    order, show = (request.GET.get(name, "") for name in ("order", "show"))
    counts = Counter(_said(slide) for slide in slides)
    chips = [{"value": value, "label": label, "count": counts[value]} for value, label in CHOICES if counts[value]]
    show = show if show in dict(CHOICES) else ""
    found = [slide for slide in order_slides(slides, order) if not show or _said(slide) == show]
    page: Page[Slide] = Paginator(found, PAGE).get_page(request.GET.get("page"))
    chosen = {"order": order, "show": show, "page": page.number if page.has_other_pages() else ""}
    return {
        "slides": list(page),
        "page": page,
        "order": order,
        "show": show,
        "chips": chips if show or (len(slides) >= FEW and len(chips) > 1) else [],
        "live_query": urlencode({name: value for name, value in chosen.items() if value}),
    }


def case_context(
    found: Case, slides: list[Slide], progress: dict[str, Any], request: SignedInRequest
) -> dict[str, Any]:
    """Template context of the parts of a case's page."""
    analyses = [slide.analysis for slide in slides if slide.analysis]
    model = services.case_model(found, slides)
    counts = services.verdict_counts(slides)
    probabilities = sorted(
        analysis.probability
        for analysis in analyses
        if analysis.probability is not None and analysis.verdict != Verdict.OUT_OF_DOMAIN
    )
    return {
        **listed(slides, request),
        "case": found,
        "is_owner": found.owner_id == request.user.pk,
        "model": model,
        "statement": text.case_statement(found, model),
        "thresholds": text.thresholds(model) if model else "",
        "disclaimer": text.DISCLAIMER,
        "progress": progress,
        "counts": {verdict: counts[verdict] for verdict in Verdict.values},
        "probabilities": probabilities,
        "dots": probabilities if 1 < len(probabilities) <= DOTS else [],
        "spread": charts.bars(probabilities) if len(probabilities) > DOTS else None,
        "average": f"average of {len(probabilities)} images" if len(probabilities) > 1 else "",
        "in_domain": sum(counts.values()) - counts[Verdict.OUT_OF_DOMAIN],
        "against": services.discordant_images(found, slides),
        "duplicates": services.duplicates(slides),
        "mixed": text.MIXED if services.is_mixed(slides) else "",
    }


def of_case(found: Case, slides: list[Slide], progress: dict[str, Any], request: SignedInRequest) -> list[Part]:
    """The changing parts of a case's page."""

    @cache
    def context() -> dict[str, Any]:
        # The progress bar stays when the last image is done, so that the page does not jump.
        return {**case_context(found, slides, progress, request), "keep_progress": True}

    ended = [str(slide.analysis.pk) for slide in slides if slide.analysis and not slide.analysis.is_open]
    shown = listed(slides, request)["slides"]
    bar = [progress[name] for name in ("open", "done", "total", "percent", "ahead", "worker_alive")]
    return [
        Part("progress", tuple(bar), "parts/case/progress.html", context),
        Part(
            "summary",
            (*ended, found.verdict, found.probability, found.headline, progress["open"] > 0),
            "parts/case/summary.html",
            context,
        ),
        Part("actions", (found.verdict != "", bool(slides)), "parts/case/actions.html", context),
        Part("slides", tuple(sorted(str(slide.pk) for slide in shown)), "parts/case/slides.html", context),
        *(_card(slide, found.owner_id == request.user.pk) for slide in shown),
    ]


def _card(slide: Slide, is_owner: bool) -> Part:
    return Part(
        f"slides/{slide.pk}",
        _progress_of(slide.analysis),
        "parts/case/slide.html",
        lambda: {"slide": slide, "is_owner": is_owner},
    )


def _progress_of(analysis: Analysis | None) -> tuple[Any, ...]:
    if analysis is None:
        return ()
    return str(analysis.pk), analysis.state, analysis.patches_done, analysis.patches_total


def slide_context(found: Slide, request: SignedInRequest) -> dict[str, Any]:
    """Template context of the parts of a slide's page."""
    analysis = found.analysis
    model = analysis.model_version if analysis else None
    # Probabilities of an image that is not H&E breast tissue are meaningless, so it has no map.
    has_map = analysis is not None and analysis.verdict not in ("", Verdict.OUT_OF_DOMAIN)
    table = PatchTable.objects.select_related("analysis").filter(analysis=analysis).first() if has_map else None
    return {
        "slide": found,
        "case": found.case,
        "analysis": analysis,
        "model": model,
        "statement": text.statement(analysis.verdict, analysis.probability, model) if analysis else "",
        "thresholds": text.thresholds(model) if model else "",
        "disclaimer": text.DISCLAIMER,
        "worker_alive": queue.worker_alive() if analysis and analysis.is_open else True,
        "earlier": found.analyses.select_related("model_version").filter(is_current=False),
        "is_owner": found.case.owner_id == request.user.pk,
        **_viewer(table, found),
    }


def _viewer(table: PatchTable | None, slide: Slide) -> dict[str, Any]:
    """Context of the viewer, the histogram and the two patch lists; of the viewer only if there is no table. Patches
    without tissue are in neither the histogram nor the lists."""
    data: dict[str, Any] = {
        "width": slide.width,
        "height": slide.height,
        "view": reverse("cases:view", args=[slide.pk]),
        "patch": PATCH,
    }
    if tiles.is_large(slide):
        data["tiles"] = reverse("cases:tiles", args=[slide.pk])
    if table is None:
        return {"viewer": data}
    rows = table.rows()
    data |= {
        # Named, so that the page gets the maps of this analysis even if another has become current.
        "analysis": str(table.analysis_id),
        "activation": f"{reverse('cases:activation', args=[slide.pk])}?analysis={table.analysis_id}",
        # null where a patch has no tissue.
        "patches": [
            [row["x"], row["y"], None if row["malignant"] is None else round(row["malignant"], 6)] for row in rows
        ],
        "patch_url": reverse("cases:patch", args=[slide.pk, 0]).removesuffix("0.png"),
        "colours": colour_table()[::4].tolist(),
    }
    with_tissue = [row for row in rows if row["malignant"] is not None]
    ordered = sorted(with_tissue, key=lambda row: -row["malignant"])
    length = min(LISTED, (len(ordered) + 1) // 2)
    data["marked"] = [row["index"] for row in ordered[:MARKED]]
    return {
        "viewer": data,
        "histogram": charts.histogram(table),
        "suspicious": ordered[:length],
        "marked": MARKED,
        "harmless": ordered[::-1][: min(length, len(ordered) - length)],
        "patch_count": len(ordered),
        "empty_count": len(rows) - len(ordered),
    }


def of_slide(found: Slide, request: SignedInRequest) -> list[Part]:
    """The changing parts of a slide's page."""
    analysis = found.analysis
    context = cache(lambda: slide_context(found, request))
    is_open = analysis is not None and analysis.is_open
    ended = (str(analysis.pk) if analysis else "", is_open)
    alive = queue.worker_alive() if is_open else True
    return [
        Part("result", (*_progress_of(analysis), alive), "parts/slide/result.html", context),
        Part("facts", ended, "parts/slide/facts.html", context),
        Part("actions", ended, "parts/slide/actions.html", context),
        Part("maps", ended, "parts/slide/maps.html", context),
        Part("patches", ended, "parts/slide/patches.html", context),
    ]
