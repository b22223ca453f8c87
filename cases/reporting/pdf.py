"""The PDF report of a case: identification, images, maps, results, readings, model and disclaimer.

The report prints the data of :func:`cases.services.export.case_data`, its SHA-256, and the address of a page that
shows the same checksum.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from django.contrib.staticfiles import finders
from django.db import transaction
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils import timezone
from PIL import Image

from cases import services
from cases.images.serving import FileMissing, open_stored
from cases.limits.concurrency import MEMORY, THREADS
from cases.limits.quotas import require_received
from cases.models import AuditEvent, Case, Report, Slide, User
from cases.reporting import model_card, text
from cases.services import export
from inference.engine import patchmap
from inference.models import ModelVersion, PatchTable, Verdict

log = logging.getLogger(__name__)

PAPERS = {"a4": "A4", "letter": "letter"}
#: Opacity of the patch map over the image, 0 to 1.
OPACITY = 0.45
#: Seconds that a report waits until it may be drawn.
PATIENCE = 10.0


#: Version of the data that a checksum covers. Version 1 has neither full names nor blinding; version 2 has neither the
#: counts of patches with and without tissue nor the reasons for a review.
FORM = 3


def content_checksum(case: Case, reader: User, form: int = FORM) -> str:
    """SHA-256 of the case as ``reader`` may see it now, without readings while they are blind.

    There are so few possible readings that a hidden one could be guessed from the checksum.
    """
    found = export.with_everything(Case.objects.filter(pk=case.pk)).get()
    return _checksum(found, reader, form)


def _checksum(case: Case, reader: User, form: int) -> str:
    data = export.case_data(case, reader)
    if services.is_blind(case, list(case.reviews.all())):
        data["reviews"] = []
    if form < 3:
        del data["review_recommended"], data["reasons"]
        for slide in data["slides"]:
            for name in ("tissue_patches", "empty_patches"):
                (slide["analysis"] or {}).pop(name, None)
    if form == 1:
        # Reports printed by earlier versions stay verifiable.
        del data["owner_name"]
        for review in data["reviews"]:
            del review["author_name"], review["blind"]
    return export.checksum(data)


@dataclass(frozen=True)
class Printed:
    """A report as PDF, and the names of the images that it could not show."""

    report: Report
    pdf: bytes
    missing: list[str]


def make(case: Case, author: User, verify_address: str, paper: str = "a4") -> Printed:
    """A report as PDF. The same content by the same author is the same report.

    ``verify_address`` is the address of this site without a trailing slash; ``paper`` is a key of :data:`PAPERS`.
    Raises :class:`cases.limits.quotas.CapacityExceeded` if too many reports are being created.
    """
    with THREADS.hold(author.pk), MEMORY.hold(author.pk, PATIENCE):
        return _make(case, author, verify_address, paper)


def _make(case: Case, author: User, verify_address: str, paper: str) -> Printed:
    from weasyprint import CSS, HTML  # slow to import, and only needed here
    from weasyprint.urls import URLFetcher

    with transaction.atomic():
        # Locked, so that the second of two simultaneous requests finds the report of the first.
        require_received(get_object_or_404(Case.objects.for_change(), pk=case.pk))
        found = export.with_everything(Case.objects.filter(pk=case.pk)).get()
        checksum = _checksum(found, author, FORM)
        report = Report.objects.filter(case=case, author=author, sha256=checksum).last()
        if report is None:
            report = Report.objects.create(case=case, author=author, sha256=checksum, form=FORM)
            services.record(case, AuditEvent.Kind.REPORTED, author, checksum[:12])
        model = services.case_model(found, found.slides.all())
    context = _context(found, author, report, model, verify_address)
    html = render_to_string("cases/report.html", context)
    # Images are inlined, and nothing may be fetched from the network or the disk.
    fetcher = URLFetcher(allowed_protocols={"data"})
    style = CSS(string=_style() + f"@page {{ size: {PAPERS[paper]} }}", url_fetcher=fetcher)
    pdf = HTML(string=html, url_fetcher=fetcher).write_pdf(
        stylesheets=[style], pdf_variant="pdf/ua-1", custom_metadata=True
    )
    assert pdf is not None
    missing = [shown["slide"].original_name for shown in context["slides"] if "picture" not in shown]
    return Printed(report, pdf, missing)


def _style() -> str:
    path = finders.find("css/report.css")
    assert isinstance(path, str)
    return Path(path).read_text(encoding="utf-8")


def _context(case: Case, author: User, report: Report, model: ModelVersion | None, address: str) -> dict[str, Any]:
    """Template context. ``case`` was loaded together with the checksum, so both describe the same state."""
    slides = sorted(case.slides.all(), key=services.natural_order)
    reviews = list(case.reviews.all())
    blind = services.is_blind(case, reviews)
    return {
        "case": case,
        "author": author,
        "report": report,
        "verify_url": address + report.get_absolute_url(),
        "printed_at": timezone.now(),
        "model": model,
        "card": model_card.lines(model) if model else {},
        "statement": text.case_statement(case, model),
        "thresholds": text.thresholds(model) if model else "",
        "disclaimer": text.DISCLAIMER,
        "mixed": text.MIXED if services.is_mixed(slides) else "",
        "slides": list(_pictures(slides)),
        "against": services.discordant_images(case, slides),
        "reviews": [review for review in reviews if not blind or review.author_id == author.pk],
        "is_blind": blind,
    }


def _pictures(slides: list[Slide]) -> Iterator[dict[str, Any]]:
    """Each slide with its thumbnail, and with the thumbnail under the patch map, as ``data:`` URLs; without them if
    its file is missing."""
    tables = {
        table.analysis_id: table
        for table in PatchTable.objects.select_related("analysis").filter(
            analysis__in=[slide.analysis.pk for slide in slides if slide.analysis]
        )
    }
    for slide in slides:
        analysis = slide.analysis
        table = tables.get(analysis.pk) if analysis else None
        try:
            with open_stored(slide.thumbnail) as opened:
                picture = Image.open(opened).convert("RGB")
        except FileMissing:
            yield {"slide": slide, "analysis": analysis}
            continue
        except OSError:
            log.exception("The thumbnail of slide %s can't be read.", slide.pk)
            yield {"slide": slide, "analysis": analysis}
            continue
        shown = {"slide": slide, "analysis": analysis, "picture": _address(picture)}
        if table is not None and analysis and analysis.verdict != Verdict.OUT_OF_DOMAIN:
            shown["map"] = _address(_with_map(picture, table))
        yield shown


def _with_map(picture: Image.Image, table: PatchTable) -> Image.Image:
    values = patchmap.surface(table.grid, np.asarray(table.malignant))
    colours = Image.fromarray(patchmap.coloured(values)).resize(picture.size, Image.Resampling.NEAREST)
    opacity = colours.getchannel("A").point(lambda alpha: round(alpha * OPACITY))
    return Image.composite(colours.convert("RGB"), picture, opacity)


def _address(picture: Image.Image) -> str:
    out = BytesIO()
    picture.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
