"""An upload call: find an earlier result, or store the files and queue their analyses."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from cases import services
from cases.images.intake import Rejected, Upload
from cases.models import Case, Slide, User
from cases.models.submissions import LEASE, Submission
from cases.services.abandoned_uploads import abandon
from inference.jobs import queue
from inference.models import Analysis, State
from inference.registry import active_model

from . import errors


@dataclass(frozen=True)
class Options:
    """Settings of the analyses."""

    overlap: float
    magnification: str
    all_pages: bool = False


@dataclass(frozen=True)
class Submitted:
    """The case with the images of a call, and their analyses.

    ``cached``: an earlier result is returned, and nothing was stored. ``replayed``: the call was repeated with the same
    idempotency key.
    """

    case: Case
    analyses: list[Analysis]
    rejected: list[dict[str, str]]
    cached: bool = False
    replayed: bool = False


def submit(user: User, files: Sequence[UploadedFile], options: Options, *, is_folder: bool, key: str = "") -> Submitted:
    """Accept the files of one call.

    Raises :class:`errors.Problem` if the key was used for other content, if its first call is still being received, if
    no worker runs or if no file can be used, and :class:`inference.registry.NoModel`.
    """
    uploads = [Upload.of(file) for file in files]
    fingerprint = _fingerprint(uploads, options, is_folder)
    if key and (earlier := _replay(user, key, fingerprint)):
        return earlier
    recorded = _recorded_folder(user, uploads, options) if is_folder else _recorded(user, uploads[0], options)
    if recorded:
        if key:
            analysis = None if is_folder else recorded.analyses[0]
            _reserve(user, key, fingerprint, case=recorded.case, analysis=analysis)
        return recorded
    if not queue.worker_alive():
        raise errors.unavailable("no_worker", "No background worker is running, so images can't be analysed.")
    active_model()
    submission = _reserve(user, key, fingerprint, receiving_until=timezone.now() + LEASE)
    try:
        return _store(user, submission, uploads, options, is_folder)
    except BaseException:  # whatever happens, nothing of a failed call stays; the error is raised again
        abandon(submission, user)
        raise


def _fingerprint(uploads: Sequence[Upload], options: Options, is_folder: bool) -> str:
    content: list[Any] = [is_folder, options.overlap, options.magnification]
    # Fingerprints of calls without the option stay as they were.
    content += [options.all_pages] * options.all_pages + [[one.name, one.sha256] for one in uploads]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _replay(user: User, key: str, fingerprint: str) -> Submitted | None:
    earlier = Submission.objects.select_related("case").filter(user=user, key=key).first()
    if earlier is None:
        return None
    if earlier.is_dead and earlier.give_up():
        abandon(earlier)
        return None
    if earlier.fingerprint != fingerprint:
        raise errors.Problem(
            "idempotency_mismatch", "This idempotency key was used before with other files or settings."
        )
    if not earlier.is_received or earlier.case is None:
        raise errors.Problem(
            "conflict",
            "The first call with this idempotency key is still being received.",
            headers={"Retry-After": "2"},
        )
    analyses = analyses_of(earlier.case)
    if earlier.analysis_id:
        analyses = list(_with_slide().filter(pk=earlier.analysis_id))
    if not analyses:
        raise errors.Problem("changed", "The images of the first call with this idempotency key were deleted.")
    return Submitted(earlier.case, analyses, earlier.rejected, replayed=True)


def _reserve(user: User, key: str, fingerprint: str, **values: Any) -> Submission:
    try:
        with transaction.atomic():
            return Submission.objects.create(user=user, key=key, fingerprint=fingerprint, **values)
    except IntegrityError as error:
        raise errors.Problem(
            "conflict",
            "Another call with this idempotency key is being received.",
            headers={"Retry-After": "2"},
        ) from error


def _store(
    user: User, submission: Submission, uploads: Sequence[Upload], options: Options, is_folder: bool
) -> Submitted:
    with transaction.atomic():
        case = services.create_case(
            user,
            detail="by API",
            title=_title(uploads),
            magnification=options.magnification,
            overlap=options.overlap,
        )
        submission.case = case
        submission.save(update_fields=["case"])
    slides, rejected = services.add_slides(case, uploads, submission, options.all_pages)
    if not slides:
        raise _nothing_usable(rejected, is_folder)
    analyses = analyses_of(case)
    if not analyses:
        raise errors.Problem("changed", "The images were deleted while they were being received.")
    submission.complete(None if is_folder else analyses[0], [vars(problem) for problem in rejected])
    case.refresh_from_db()
    return Submitted(case, analyses, submission.rejected)


def _nothing_usable(rejected: Sequence[Rejected], is_folder: bool) -> errors.Problem:
    if not is_folder and rejected[0].code == "too_large":
        most = settings.UPLOAD_MAX_BYTES
        return errors.too_large(f"{rejected[0].filename} is larger than {most} bytes.", most, "bytes")
    return errors.invalid_files(rejected)


def _title(uploads: Sequence[Upload]) -> str:
    if len(uploads) == 1:
        return uploads[0].name[:120]
    return f"{uploads[0].name[:90]} and {len(uploads) - 1} more"


def _with_slide() -> models.QuerySet[Analysis]:
    return Analysis.with_model().select_related("slide")


def analyses_of(case: Case) -> list[Analysis]:
    return list(_with_slide().filter(slide__case=case, is_current=True).order_by("slide__added_at"))


def _finished(user: User, options: Options) -> models.QuerySet[Analysis]:
    """The user's finished analyses with the active model, the current runtime and the same settings.

    The current runtime is that of the model's newest finished analysis, because only workers know their own.
    """
    version = active_model()
    newest = (
        Analysis.objects.filter(model_version=version, state=State.DONE)
        .order_by("-finished_at")
        .values_list("runtime", flat=True)
        .first()
    )
    # A call that is still being received may be abandoned.
    done = _with_slide().exclude(slide__case__submissions__receiving_until__isnull=False)
    return done.filter(
        slide__case__owner=user,
        slide__magnification=options.magnification,
        model_version=version,
        overlap=options.overlap,
        state=State.DONE,
        runtime=newest or "",
    )


def _recorded(user: User, upload: Upload, options: Options) -> Submitted | None:
    # Under another name they get a case and a report of their own.
    same = _finished(user, options).filter(slide__sha256=upload.sha256, slide__original_name=upload.name)
    analysis = same.order_by("-is_current", "-finished_at").first()
    if analysis is None:
        return None
    case = Case.objects.get(pk=analysis.slide.case_id)
    return Submitted(case, [analysis], [], cached=True)


def _recorded_folder(user: User, uploads: Sequence[Upload], options: Options) -> Submitted | None:
    """A case of exactly these files whose current analyses all have the same model, runtime and settings."""
    finished = _finished(user, options).filter(is_current=True)
    wanted = Counter((one.name, one.sha256) for one in uploads)
    candidates = (
        Case.objects.filter(owner=user, slide_count=len(uploads), open_count=0, failed_count=0)
        .filter(slides__sha256=uploads[0].sha256)
        .distinct()
        .order_by("-created_at")[:20]
    )
    for case in candidates:
        slides = Slide.objects.filter(case=case)
        if Counter(slides.values_list("original_name", "sha256")) != wanted:
            continue
        analyses = list(finished.filter(slide__in=slides).order_by("slide__added_at"))
        if len(analyses) == len(uploads):
            return Submitted(case, analyses, [], cached=True)
    return None
