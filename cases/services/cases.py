"""Cases and their images: created, changed and deleted."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm

from cases import audit
from cases.images import deletion, intake
from cases.limits.concurrency import Kind
from cases.limits.quotas import require_received, require_room, require_slot
from cases.models import AuditEvent, Case, Slide, Submission, Tag, User
from cases.services.aggregation import refresh
from cases.services.analyses import analyse
from cases.services.reviews import note_reading
from cases.services.timeline import record
from inference.models import Analysis
from inference.registry import active_model

#: Seconds that an upload waits for others' to be read.
PATIENCE = 2.0


def set_tags(case: Case, names: Iterable[str]) -> None:
    """Replace the case's tags; the owner's tags that no case carries any more go."""
    # Of two calls at once one could delete the tag that the other is about to use.
    list(Tag.objects.select_for_update().filter(owner_id=case.owner_id).order_by("pk").values_list("pk"))
    tags = [Tag.objects.get_or_create(owner_id=case.owner_id, name=name)[0] for name in names]
    case.tags.set(tags)
    Tag.objects.filter(owner_id=case.owner_id, cases=None).delete()


def add_slides(
    case: Case, files: Sequence[UploadedFile], call: Submission | None = None
) -> tuple[list[Slide], list[intake.Rejected]]:
    """Store uploads as slides of the case and queue their analyses. Bad files don't stop good ones.

    ``call`` is the program's call that the case is made by, renewed with each file. Raises
    :class:`inference.registry.NoModel` or :class:`cases.limits.quotas.CapacityExceeded` before anything is stored.
    """

    def arriving() -> Iterator[UploadedFile]:
        for file in files:
            if call:
                call.renew()
            yield file

    def keep(slide: Slide) -> None:
        # Row and analysis together: what was accepted is queued, whatever becomes of this process.
        with transaction.atomic():
            slide.save()
            analyse(case, [slide])
            record(case, AuditEvent.Kind.ADDED, case.owner, slide.original_name, slide.pk)

    with require_slot(case.owner, Kind.UPLOAD, "Other images are being read. Send yours again in a moment.", PATIENCE):
        if call is None:
            require_received(case)
        active_model()
        require_room(case.owner, len(files))
        return intake.store_all(case, arriving(), keep)


def wait_for_workers(slides: Any) -> set[uuid.UUID]:
    """Whoever ends one of these slides' analyses at this moment goes first; later ones find it gone.

    Analyses are held before their case, by everybody, so that no two wait for each other. Returns which were held.
    """
    analyses = Analysis.objects.filter(slide__in=slides).order_by("pk")
    return set(analyses.select_for_update().values_list("pk", flat=True))


def lock_whole_case(pk: uuid.UUID) -> None:
    """Hold a case and all its analyses until the transaction ends: nobody adds to it, and no worker ends one."""
    _hold(Case.objects.select_for_update().filter(pk=pk), Slide.objects.filter(case=pk).values("pk"))


def _hold(case: QuerySet[Case], slides: Any) -> None:
    while True:
        mark = transaction.savepoint()
        held = wait_for_workers(slides)
        list(case.values_list("pk"))
        # Of analyses that were asked for in between a worker could end one, and would wait for the case.
        if held == set(Analysis.objects.filter(slide__in=slides).values_list("pk", flat=True)):
            transaction.savepoint_commit(mark)
            return
        transaction.savepoint_rollback(mark)


def remove_slide(slide: Slide, actor: User | None) -> None:
    """Delete a slide, its analyses and its files."""
    case, pk = slide.case, slide.pk
    with transaction.atomic():
        # The case before its slide, as who changes it holds them.
        _hold(Case.objects.for_change().filter(pk=case.pk), [slide.pk])
        if not Slide.objects.filter(pk=pk).exists():
            return
        slide.delete()
        # Not by its name, which may be why it goes.
        record(case, AuditEvent.Kind.REMOVED, actor, f"SHA-256 {slide.sha256[:12]}", pk)
        audit.erase_log_entries([pk])
        audit.erase_name(pk, case.pk, slide.original_name)
        refresh(case)
        deletion.remove(intake.files_of(slide))


def remove_case(case: Case, actor: User | None) -> None:
    """Delete a case with everything in it; the files go once the rows are gone. Nobody did it where time did."""
    pk = case.pk
    with transaction.atomic():
        lock_whole_case(pk)
        if not Case.objects.filter(pk=pk).exists():
            return
        slides = list(case.slides.all())
        record(case, AuditEvent.Kind.DELETED, actor)
        audit.erase_log_entries([pk, *(slide.pk for slide in slides)])
        case.delete()
        audit.erase_details(pk)
        deletion.remove(name for slide in slides for name in intake.files_of(slide))


def save_case(form: ModelForm[Case], owner: User | None = None) -> Case:
    """Save a case's form with its tags; ``owner`` is given for a new case."""
    case = form.instance
    is_new = case._state.adding
    before = Case(owner=owner) if is_new else Case.objects.get(pk=case.pk)
    if owner:
        case.owner = owner
    with transaction.atomic():
        form.save()
        set_tags(case, form.cleaned_data["tags"])
        record(case, AuditEvent.Kind.CREATED if is_new else AuditEvent.Kind.EDITED, case.owner)
        propagate_magnification(case, before)
        note_reading(case, before, case.owner)
    return case


def propagate_magnification(case: Case, before: Case) -> None:
    """A magnification that was corrected is that of the images there, too."""
    if case.magnification != before.magnification and not before._state.adding:
        case.slides.update(magnification=case.magnification)


def limits() -> dict[str, Any]:
    """What an upload may be, as forms, scripts and API documentation state it."""
    return {
        "max_bytes": settings.UPLOAD_MAX_BYTES,
        "max_files": settings.UPLOAD_MAX_FILES,
        "max_pixels": settings.UPLOAD_MAX_PIXELS,
    }
