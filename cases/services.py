"""What can be done with cases, for pages and API alike. Views only read requests and call these."""

from __future__ import annotations

import math
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.utils import timezone

from inference.engine import verdict as engine_verdict
from inference.models import OPEN, Analysis, ModelVersion, State, Verdict
from inference.queue import request_analyses
from inference.registry import active_model

from . import accounts, audit, removal, uploads
from .models import Case, Event, Review, Slide, Submission, Tag, User
from .pressure import require_received, require_room, require_turn, room
from .turns import Kind

#: Seconds that an upload waits for others' to be read.
PATIENCE = 2.0


def record(
    case: Case, kind: Event.Kind, actor: User | None = None, detail: str = "", about: uuid.UUID | None = None
) -> Event:
    """Write a line of the case's timeline; the case was changed now, which is what its retention counts from."""
    Case.objects.filter(pk=case.pk).update(updated_at=timezone.now())
    return audit.record(kind, case, actor, detail, about)


def set_tags(case: Case, names: Iterable[str]) -> None:
    """Replace the case's tags; the owner's tags that no case carries any more go."""
    # Of two calls at once one could delete the tag that the other is about to use.
    list(Tag.objects.select_for_update().filter(owner_id=case.owner_id).order_by("pk").values_list("pk"))
    tags = [Tag.objects.get_or_create(owner_id=case.owner_id, name=name)[0] for name in names]
    case.tags.set(tags)
    Tag.objects.filter(owner_id=case.owner_id, cases=None).delete()


def add_slides(
    case: Case, files: Sequence[UploadedFile], call: Submission | None = None
) -> tuple[list[Slide], list[uploads.Rejected]]:
    """Store uploads as slides of the case and queue their analyses. Bad files don't stop good ones.

    ``call`` is the program's call that the case is made by, renewed with each file. Raises
    :class:`inference.registry.NoModel` or :class:`cases.pressure.Busy` before anything is stored.
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
            record(case, Event.Kind.ADDED, case.owner, slide.original_name, slide.pk)

    with require_turn(case.owner, Kind.UPLOAD, "Other images are being read. Send yours again in a moment.", PATIENCE):
        if call is None:
            require_received(case)
        active_model()
        require_room(case.owner, len(files))
        return uploads.store_all(case, arriving(), keep)


def analyse(
    case: Case,
    slides: Sequence[Slide],
    overlap: float | None = None,
    model_version: ModelVersion | None = None,
) -> list[Analysis]:
    """Queue an analysis of each slide; ones already waiting or running are left alone."""
    with transaction.atomic():
        analyses = request_analyses(
            {slide.pk: (slide.width, slide.height) for slide in slides},
            case.owner_id,
            overlap=case.overlap if overlap is None else overlap,
            model_version=model_version,
        )
        refresh(case)
    return analyses


def request_again(
    case: Case,
    slides: Sequence[Slide],
    actor: User,
    overlap: float | None = None,
    model_version: ModelVersion | None = None,
) -> list[Analysis]:
    """Analyse slides once more, with the active model unless told otherwise, and note who asked.

    Of more than may be open now those whose results are oldest, so that asking once more takes the others.
    Returns the analyses that are open now. Raises :class:`cases.pressure.Busy`.
    """
    current = Analysis.objects.filter(slide__in=slides, is_current=True)
    still_open = set(current.filter(state__in=OPEN).values_list("slide_id", flat=True))
    age = dict(current.values_list("slide_id", "queued_at"))
    oldest = sorted(slides, key=lambda slide: age.get(slide.pk, slide.added_at))
    wanted = [slide.pk for slide in oldest if slide.pk not in still_open]
    chosen = set(wanted[: max(1, room(case.owner))])
    require_room(case.owner, len(chosen))
    taken = [slide for slide in slides if slide.pk in chosen | still_open]
    if not taken:
        return []
    detail, about = (taken[0].original_name, taken[0].pk) if len(taken) == 1 else (f"{len(taken)} images", None)
    # Together: who removes the image finds its name in the trail, or it was never asked for.
    with transaction.atomic():
        analyses = analyse(case, taken, overlap, model_version)
        record(case, Event.Kind.REQUESTED, actor, detail, about)
    return analyses


def wait_for_workers(slides: Any) -> set[uuid.UUID]:
    """Whoever ends one of these slides' analyses at this moment goes first; later ones find it gone.

    Analyses are held before their case, by everybody, so that no two wait for each other. Returns which were held.
    """
    analyses = Analysis.objects.filter(slide__in=slides).order_by("pk")
    return set(analyses.select_for_update().values_list("pk", flat=True))


def hold_whole(pk: uuid.UUID) -> None:
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


def is_mixed(slides: Iterable[Slide]) -> bool:
    """Whether they were judged by several model versions, or with several overlaps."""
    done = (slide.analysis for slide in slides if slide.analysis and slide.analysis.verdict)
    return len({(analysis.model_version_id, analysis.overlap) for analysis in done}) > 1


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
        record(case, Event.Kind.REMOVED, actor, f"SHA-256 {slide.sha256[:12]}", pk)
        audit.erase_log_entries([pk])
        audit.erase_name(pk, case.pk, slide.original_name)
        refresh(case)
        removal.remove(uploads.files_of(slide))


def remove_case(case: Case, actor: User | None) -> None:
    """Delete a case with everything in it; the files go once the rows are gone. Nobody did it where time did."""
    pk = case.pk
    with transaction.atomic():
        hold_whole(pk)
        if not Case.objects.filter(pk=pk).exists():
            return
        slides = list(case.slides.all())
        record(case, Event.Kind.DELETED, actor)
        audit.erase_log_entries([pk, *(slide.pk for slide in slides)])
        case.delete()
        audit.erase_words(pk)
        removal.remove(name for slide in slides for name in uploads.files_of(slide))


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
        record(case, Event.Kind.CREATED if is_new else Event.Kind.EDITED, case.owner)
        pass_on(case, before)
        note_reading(case, before, case.owner)
    return case


def pass_on(case: Case, before: Case) -> None:
    """A magnification that was corrected is that of the images there, too."""
    if case.magnification != before.magnification and not before._state.adding:
        case.slides.update(magnification=case.magnification)


def note_reading(case: Case, before: Case, actor: User) -> None:
    """Note who was asked to read, and whether blind, where a form changed it."""
    if case.assigned_to_id != before.assigned_to_id:
        _record_assigned(case, case.assigned_to, actor)
    if case.is_blinded != before.is_blinded:
        words = "Blinded double reading set" if case.is_blinded else "Blinded double reading lifted"
        record(case, Event.Kind.EDITED, actor, words)


def _record_assigned(case: Case, reader: User | None, actor: User) -> None:
    # With the reader's key, by which their name is found when it has to be forgotten.
    key = audit.identity_of(reader).pk if reader else None
    record(case, Event.Kind.ASSIGNED, actor, str(reader) if reader else "nobody", key)


def assign(case: Case, reader: User | None, actor: User) -> None:
    """Ask a reviewer to read the case, or nobody any more."""
    Case.objects.filter(pk=case.pk).update(assigned_to=reader)
    _record_assigned(case, reader, actor)


def sign_review(case: Case, author: User, reading: str, subtype: str = "", comment: str = "") -> Review:
    """Record a person's reading beside what the model says at this moment.

    Raises ``PermissionDenied`` where they may not read the case any more.
    """
    with transaction.atomic():
        author = accounts.hold(author)
        # Two who sign together do so one after the other.
        held = Case.objects.visible_to(author).for_change().filter(pk=case.pk).first()
        if held is None:
            raise PermissionDenied("The case is not yours to read any more.")
        require_received(held)
        record(held, Event.Kind.REVIEWED, author)
        # While images are open there is no verdict of the model yet that a reading could be compared with.
        verdict = "" if held.open_count else held.verdict
        return Review.objects.create(
            case=held,
            author=author,
            was_blind=is_blind(held),
            reading=reading,
            subtype=subtype,
            comment=comment,
            verdict=verdict,
            probability=held.probability if verdict else None,
            model_version=case_model(held) if verdict else None,
        )


def is_blind(case: Case, reviews: Iterable[Review] | None = None) -> bool:
    """Whether readings are still hidden from all but their authors. ``reviews`` are all of the case, where the
    caller has them."""
    if not case.is_blinded:
        return False
    authors = (
        case.reviews.values("author").distinct().count() if reviews is None else len({r.author_id for r in reviews})
    )
    return authors < 2


def visible_reviews(case: Case, reader: User) -> QuerySet[Review]:
    """The readings that this person may see: in a blinded case their own, until two people have read."""
    reviews = case.reviews.select_related("author", "model_version")
    return reviews.filter(author=reader) if is_blind(case) else reviews


def case_model(case: Case) -> ModelVersion | None:
    """The newest model version among the case's finished current analyses: its cut points judge the case."""
    current = Analysis.objects.filter(slide__case=case, is_current=True, state=State.DONE)
    return ModelVersion.objects.filter(analyses__in=current).order_by("-added_at").first()


def refresh(case: Case) -> None:
    """Derive the case's aggregate from its slides' current analyses.

    The mean of the calibrated probabilities of the in-domain slides, judged by the cut points of the
    newest model version among them. Called within a transaction.
    """
    # Of several workers that end images of one case together, the later one waits here and then sees what the
    # earlier one wrote; without it both would count the other's image as still open.
    list(Case.objects.for_change().filter(pk=case.pk).values_list("pk"))
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
    return {
        "verdict": verdict,
        "probability": probability,
        "slide_count": case.slides.count(),
        "open_count": current.filter(state__in=OPEN).count(),
        "failed_count": current.filter(state=State.FAILED).count(),
    }


def recount(pk: uuid.UUID, mend: bool = False) -> bool:
    """Whether a case's aggregate is other than what its analyses say. ``mend`` derives it anew and notes that."""
    with transaction.atomic():
        # Held, so that no worker writes between the two looks.
        case = Case.objects.for_change().filter(pk=pk).first()
        if case is None or _is_derived(case):
            return False
        if mend:
            refresh(case)
            case.refresh_from_db()
            record(case, Event.Kind.ANALYSED, detail=f"{case.get_verdict_display() or 'no verdict'}, counted again")
        return True


def _is_derived(case: Case) -> bool:
    wanted = derived(case)
    kept = {name: getattr(case, name) for name in Case.DERIVED}
    p, q = wanted.pop("probability"), kept.pop("probability")
    # The mean of the same numbers in another order differs in its last bits.
    return wanted == kept and (p == q if p is None or q is None else math.isclose(p, q, abs_tol=1e-9))


def natural(slide: Slide) -> list[tuple[int, int, str]]:
    """Sorts file names as people count: 2 before 10."""
    parts = re.split(r"(\d+)", slide.original_name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def against_the_mean(case: Case, slides: Iterable[Slide]) -> list[Slide]:
    """Slides that read malignant in a case whose mean does not, most suspicious first: a mean must hide none."""
    if not case.verdict or case.verdict == Verdict.MALIGNANT:
        return []
    read = [(slide.analysis.probability or 0.0, slide) for slide in slides
            if slide.analysis and slide.analysis.verdict == Verdict.MALIGNANT]  # fmt: skip
    return [slide for _, slide in sorted(read, key=lambda pair: -pair[0])]


def twins(slides: Iterable[Slide]) -> list[list[Slide]]:
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
        record(case, Event.Kind.ANALYSED, detail=f"{said}, {analysis.model_version}")


def limits() -> dict[str, Any]:
    """What an upload may be, as forms, scripts and API documentation state it."""
    return {
        "max_bytes": settings.UPLOAD_MAX_BYTES,
        "max_files": settings.UPLOAD_MAX_FILES,
        "max_pixels": settings.UPLOAD_MAX_PIXELS,
    }
