"""Cases and their images: created, changed and deleted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError, transaction
from django.forms import ModelForm

from cases import audit
from cases.images import deletion, intake, sandbox
from cases.limits.concurrency import THREADS
from cases.limits.quotas import CapacityExceeded, require_received, require_room
from cases.models import AuditEvent, Case, Slide, Submission, Tag, User
from cases.models.folding import composed
from cases.services.aggregation import refresh
from cases.services.analyses import analyse
from cases.services.locking import lock_account, lock_case
from cases.services.reviews import record_reading_changes
from cases.services.timeline import record
from inference.engine.formats import table
from inference.engine.image import ImageError
from inference.registry import active_model

log = logging.getLogger(__name__)


def create_case(owner: User, tags: Iterable[str] = (), detail: str = "", **values: Any) -> Case:
    """Create a case; ``values`` are its fields, ``detail`` a remark for the audit trail."""
    with transaction.atomic():
        lock_account(owner)
        case = Case.objects.create(owner=owner, **_composed(values))
        set_tags(case, tags)
        record(case, AuditEvent.Kind.CREATED, owner, detail)
    return case


def update_case(case: Case, values: dict[str, Any], tags: Iterable[str] | None = None, detail: str = "") -> Case:
    """Change fields of a case, and its tags unless they are None."""
    with transaction.atomic():
        lock_case(case.pk)
        before = Case.objects.get(pk=case.pk)
        # Only these columns: workers write others.
        Case.objects.filter(pk=case.pk).update(**_composed(values))
        case.refresh_from_db()
        if tags is not None:
            set_tags(case, tags)
        propagate_magnification(case, before)
        record(case, AuditEvent.Kind.EDITED, case.owner, detail)
    return case


def save_case(form: ModelForm[Case], owner: User | None = None) -> Case:
    """Save a case's form with its tags; ``owner`` is given for a new case."""
    case = form.instance
    is_new = case._state.adding
    before = Case(owner=owner) if is_new else Case.objects.get(pk=case.pk)
    if owner:
        case.owner = owner
    with transaction.atomic():
        if is_new:
            lock_account(case.owner)
        for name in ("title", "patient", "notes"):
            setattr(case, name, composed(getattr(case, name)))
        form.save()
        set_tags(case, form.cleaned_data["tags"])
        record(case, AuditEvent.Kind.CREATED if is_new else AuditEvent.Kind.EDITED, case.owner)
        propagate_magnification(case, before)
        record_reading_changes(case, before, case.owner)
    return case


def _composed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: composed(value) if type(value) is str else value for name, value in values.items()}


def set_tags(case: Case, names: Iterable[str]) -> None:
    """Replace the case's tags, and delete tags of the owner that no case has any more."""
    # Without the lock, one of two calls could delete the tag that the other is about to use.
    list(Tag.objects.select_for_update().filter(owner_id=case.owner_id).order_by("pk").values_list("pk"))
    tags = [Tag.objects.get_or_create(owner_id=case.owner_id, name=composed(name))[0] for name in names]
    case.tags.set(tags)
    Tag.objects.filter(owner_id=case.owner_id, cases=None).delete()


def propagate_magnification(case: Case, before: Case) -> None:
    """Apply a corrected magnification to the images of the case."""
    if case.magnification != before.magnification and not before._state.adding:
        case.slides.update(magnification=case.magnification)


def add_slides(
    case: Case,
    files: Sequence[UploadedFile | intake.Upload],
    call: Submission | None = None,
    all_pages: bool = False,
) -> tuple[list[Slide], list[intake.Rejected]]:
    """Store uploads as slides of the case and queue their analyses. A bad file does not stop the others.

    ``call`` is the API call that creates the case; its lease is renewed with each file. With ``all_pages`` each page of
    a file that is a picture of its own becomes a slide. Raises
    :class:`inference.registry.NoModel` or :class:`cases.limits.quotas.CapacityExceeded` before anything is stored.
    """
    with THREADS.hold(case.owner_id):
        if call is None:
            require_received(case)
        active_model()
        require_room(case.owner, len(files))
        free = settings.CASE_MAX_IMAGES - case.slides.count()
        slides: list[Slide] = []
        rejected: list[intake.Rejected] = []
        for file in files:
            pages: list[int | None] = [0 if all_pages else None]
            while pages:
                if call:
                    call.renew()
                page = pages.pop(0)
                try:
                    result = _add_slide(case, file, page, is_full=len(slides) >= free)
                except CapacityExceeded:
                    if not slides:
                        raise
                    reason = "was not read, because the server is busy; send it again in a moment"
                    result = intake.Rejected(_name(file), "busy", reason)
                if isinstance(result, Slide):
                    slides.append(result)
                    if page == 0:
                        pages.extend(result.other_pages)
                else:
                    rejected.append(result)
                    # Of a case that is full, one page says so for all.
                    pages = [] if result.code == "case_full" else pages
        return slides, rejected


def _name(file: UploadedFile | intake.Upload) -> str:
    return file.name if isinstance(file, intake.Upload) else intake.clean_name(file.name)


def _add_slide(
    case: Case, file: UploadedFile | intake.Upload, page: int | None, is_full: bool
) -> Slide | intake.Rejected:
    name = _name(file)
    try:
        if is_full:
            raise ImageError("case_full", f"exceeds the maximum of {settings.CASE_MAX_IMAGES} images per case")
        upload = file if isinstance(file, intake.Upload) else intake.Upload.of(file)
        slide = intake.store(case, upload, page)
        _save_and_queue(case, slide)
        return slide
    except ImageError as error:
        return intake.Rejected(name, error.code, str(error))
    except sandbox.DecoderFailed as error:
        return intake.Rejected(name, "error", str(error))
    except OSError as error:
        log.exception("The file store failed.")
        reason = f"could not be stored by the server ({error.strerror or 'storage error'}); try again later"
        return intake.Rejected(name, "storage", reason)


def _save_and_queue(case: Case, slide: Slide) -> None:
    """Save a stored slide together with its queued analysis; if that fails, delete its files."""
    try:
        with transaction.atomic():
            lock_case(case.pk)
            slide.save()
            analyse(case, [slide])
            record(case, AuditEvent.Kind.ADDED, case.owner, slide.original_name, slide.pk)
    except BaseException as error:  # raised again; only the files are cleaned up
        if not isinstance(error, DatabaseError) or _is_missing(slide):
            intake.delete_files(slide)
        raise


def _is_missing(slide: Slide) -> bool:
    """Whether the database certainly has no such slide: a commit can succeed although its acknowledgement is lost."""
    try:
        return not Slide.objects.filter(pk=slide.pk).exists()
    except DatabaseError:
        # The daily purge deletes the files if nothing refers to them.
        return False


def remove_slide(slide: Slide, actor: User | None) -> None:
    """Delete a slide with its analyses and files."""
    case, pk = slide.case, slide.pk
    with transaction.atomic():
        lock_case(case.pk)
        if not Slide.objects.filter(pk=pk).exists():
            return
        slide.delete()
        # The name may be the reason for the deletion, so it is not recorded.
        record(case, AuditEvent.Kind.REMOVED, actor, f"SHA-256 {slide.sha256[:12]}", pk)
        audit.erase_log_entries([pk])
        audit.erase_name(pk, case.pk, slide.original_name)
        refresh(case)
        deletion.remove(intake.files_of(slide))


def remove_case(case: Case, actor: User | None) -> None:
    """Delete a case with everything in it. ``actor`` is None if its retention ended."""
    pk = case.pk
    with transaction.atomic():
        lock_case(pk, for_deletion=True)
        if not Case.objects.filter(pk=pk).exists():
            return
        slides = list(case.slides.all())
        record(case, AuditEvent.Kind.DELETED, actor)
        audit.erase_log_entries([pk, *(slide.pk for slide in slides)])
        case.delete()
        audit.erase_details(pk)
        deletion.remove(name for slide in slides for name in intake.files_of(slide))


def limits() -> dict[str, Any]:
    """Upload limits, for pages and the API."""
    return {
        "max_bytes": settings.UPLOAD_MAX_BYTES,
        "max_files": settings.UPLOAD_MAX_FILES,
        "max_pixels": settings.UPLOAD_MAX_PIXELS,
    }


def upload_rules() -> dict[str, Any]:
    """:func:`limits`, and how forms and scripts tell images: names of formats, usual suffixes, and what content begins
    with, as a regular expression."""
    return {**limits(), "formats": table.NAMES, "suffixes": table.SUFFIXES, "content": table.pattern()}
