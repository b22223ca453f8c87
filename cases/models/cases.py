"""Cases, their images and their tags."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Count, Prefetch
from django.urls import reverse
from django.utils import timezone

from inference.engine.review import Reason, headline, review_reasons
from inference.models import Analysis, Verdict

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser
from cases.models.choices import CaseState, Magnification
from cases.models.users import User


class Tag(models.Model):
    """A label of one person's cases."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=30)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_tag_a_name")]

    def __str__(self) -> str:
        return self.name


class CaseQuerySet(models.QuerySet["Case"]):
    def visible_to(self, user: User | AnonymousUser) -> CaseQuerySet:
        """All cases for a reviewer, their own for other users, none without an active account."""
        if not isinstance(user, User) or not user.is_active:
            return self.none()
        return self if user.is_reviewer else self.filter(owner=user)

    def editable_by(self, user: User | AnonymousUser) -> CaseQuerySet:
        """The user's own cases: reviewers may read other people's cases but not change them."""
        if not isinstance(user, User) or not user.is_active:
            return self.none()
        return self.filter(owner=user)

    def for_change(self) -> CaseQuerySet:
        """Locked until the transaction ends, so that nobody else changes a case between reading and saving it."""
        return self.select_for_update(no_key=True, of=("self",))

    def in_state(self, state: str) -> CaseQuerySet:
        """Cases whose :attr:`Case.state` is ``state``."""
        if state == CaseState.EMPTY:
            return self.filter(slide_count=0)
        if state == CaseState.RUNNING:
            return self.filter(slide_count__gt=0, open_count__gt=0)
        ended = self.filter(slide_count__gt=0, open_count=0)
        return ended.filter(failed_count__gt=0) if state == CaseState.FAILED else ended.filter(failed_count=0)

    def still_blind(self) -> CaseQuerySet:
        """Blinded cases that fewer than two people have read; see :func:`cases.services.is_blind` for a single case."""
        return (
            self.filter(is_blinded=True).annotate(readers=Count("reviews__author", distinct=True)).filter(readers__lt=2)
        )


class Case(models.Model):
    """Slides that belong together, usually of one patient.

    The case result (``verdict``, ``probability`` and the counts) is derived from the slides' current
    analyses by :func:`cases.services.refresh` and stored here, so that a history of thousands of cases
    takes one query.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="cases")
    title = models.CharField(max_length=120)
    patient = models.CharField(
        "patient pseudonym", max_length=60, blank=True, help_text="Never a name, birth date or record number."
    )
    notes = models.TextField("clinical notes", max_length=5000, blank=True)
    magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    overlap = models.FloatField(
        "patch overlap", default=0.0, help_text="Minimum overlap of neighbouring patches, as a fraction of the patch."
    )
    is_synthetic = models.BooleanField(default=False, editable=False)
    tags = models.ManyToManyField(Tag, blank=True, related_name="cases")
    assigned_to = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="assigned_cases"
    )
    is_blinded = models.BooleanField(
        "blinded double reading",
        default=False,
        help_text="Until two people have signed a reading, each sees only their own reading.",
    )
    is_teaching = models.BooleanField("teaching case", default=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    updated_at = models.DateTimeField("updated", auto_now=True)

    verdict = models.CharField("result", max_length=15, choices=Verdict.choices, blank=True, editable=False)
    probability = models.FloatField(null=True, blank=True, editable=False)
    slide_count = models.PositiveIntegerField(default=0, editable=False)
    open_count = models.PositiveIntegerField(default=0, editable=False)
    failed_count = models.PositiveIntegerField(default=0, editable=False)
    malignant_count = models.PositiveIntegerField(default=0, editable=False)
    indeterminate_count = models.PositiveIntegerField(default=0, editable=False)
    rejected_count = models.PositiveIntegerField(default=0, editable=False)

    #: Written only by :func:`cases.services.refresh`.
    DERIVED = (
        "verdict", "probability", "slide_count", "open_count", "failed_count", "malignant_count",
        "indeterminate_count", "rejected_count",
    )  # fmt: skip

    objects = CaseQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        permissions = [("review_cases", "Can read every case")]
        indexes = [models.Index(fields=["owner", "-created_at"], name="case_history")]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Does not write the derived columns: a form loaded before an analysis ended must not overwrite them."""
        if not self._state.adding and kwargs.get("update_fields") is None:
            kwargs["update_fields"] = [
                field.name
                for field in self._meta.concrete_fields
                if not field.primary_key and field.name not in self.DERIVED
            ]
        super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        return reverse("cases:case", args=[self.pk])

    def clean(self) -> None:
        """Blinding can be lifted only by a second reading, or the second reader could look before signing. It can be
        set only before the first reading, or a reading that was not blind would appear to be."""
        if self._state.adding:
            return
        was_blinded = Case.objects.filter(pk=self.pk, is_blinded=True).exists()
        readers = self.reviews.values("author").distinct().count()
        if was_blinded and not self.is_blinded and readers == 1:
            raise ValidationError(
                {"is_blinded": "One person has signed a reading; the case stays blinded until a second person has."}
            )
        if self.is_blinded and not was_blinded and readers:
            raise ValidationError(
                {"is_blinded": "A reading has been signed already; a case can be blinded only before the first."}
            )

    @property
    def state(self) -> str:
        """A value of :class:`CaseState`; :meth:`CaseQuerySet.in_state` is the same in SQL."""
        if not self.slide_count:
            return CaseState.EMPTY.value
        if self.open_count:
            return CaseState.RUNNING.value
        return CaseState.FAILED.value if self.failed_count else CaseState.DONE.value

    @property
    def reasons(self) -> list[Reason]:
        """Reasons to review the images, whatever their mean is; see :mod:`inference.engine.review`."""
        return review_reasons(
            self.verdict,
            images=self.slide_count - self.open_count - self.failed_count,
            malignant=self.malignant_count,
            indeterminate=self.indeterminate_count,
            rejected=self.rejected_count,
            failed=self.failed_count,
        )

    @property
    def review_recommended(self) -> bool:
        return bool(self.reasons)

    @property
    def headline(self) -> str:
        """Heading shown instead of the result if a review is recommended, otherwise empty."""
        return headline(self.verdict, self.reasons)

    @property
    def confidence(self) -> float | None:
        """The larger of the two calibrated probabilities; 0 if not H&E breast tissue, None without a result."""
        if self.probability is None:
            return None
        if self.verdict == Verdict.OUT_OF_DOMAIN:
            return 0.0
        return max(self.probability, 1.0 - self.probability)


def random_name(slide: Slide, filename: str) -> str:
    """Random path of a slide's image file, independent of its original name."""
    name = uuid.uuid4().hex
    return f"slides/{name[:2]}/{name}.png"


def random_thumbnail_name(slide: Slide, filename: str) -> str:
    name = uuid.uuid4().hex
    return f"thumbnails/{name[:2]}/{name}.jpg"


class SlideQuerySet(models.QuerySet["Slide"]):
    def with_analysis(self) -> SlideQuerySet:
        """Prefetch the current analysis of each slide; see :attr:`Slide.analysis`."""
        current = Analysis.with_model().filter(is_current=True)
        return self.prefetch_related(Prefetch("analyses", current, to_attr="current_analyses"))

    def visible_to(self, user: User | AnonymousUser) -> SlideQuerySet:
        return self.filter(case__in=Case.objects.visible_to(user))

    def editable_by(self, user: User | AnonymousUser) -> SlideQuerySet:
        return self.filter(case__in=Case.objects.editable_by(user))


class Slide(models.Model):
    """One uploaded image. The stored file is a PNG rebuilt from the pixels; ``sha256`` is of the uploaded file."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="slides")
    original_name = models.CharField("file name", max_length=255)
    file = models.FileField(upload_to=random_name, editable=False, max_length=200)
    thumbnail = models.FileField(upload_to=random_thumbnail_name, editable=False, max_length=200)
    sha256 = models.CharField("SHA-256 of the upload", max_length=64, editable=False)
    stored_sha256 = models.CharField("SHA-256 of the stored file", max_length=64, blank=True, editable=False)
    format = models.CharField(max_length=10, editable=False)
    size = models.PositiveBigIntegerField("size in bytes", editable=False)
    width = models.PositiveIntegerField(editable=False)
    height = models.PositiveIntegerField(editable=False)
    page = models.PositiveIntegerField(
        null=True, blank=True, editable=False, help_text="Of a file whose pages are slides of their own."
    )
    warnings = models.JSONField("what decoding noted", default=list, blank=True, editable=False)
    magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    added_at = models.DateTimeField("added", default=timezone.now, editable=False)

    current_analyses: list[Analysis]
    #: Other pages of the upload that are pictures of their own; set when it is stored.
    other_pages: list[int]

    objects = SlideQuerySet.as_manager()

    class Meta:
        ordering = ["added_at", "original_name"]

    def __str__(self) -> str:
        return self.original_name

    def get_absolute_url(self) -> str:
        return reverse("cases:slide", args=[self.pk])

    @property
    def analysis(self) -> Analysis | None:
        """The current analysis; no query after :meth:`SlideQuerySet.with_analysis`."""
        if hasattr(self, "current_analyses"):
            return self.current_analyses[0] if self.current_analyses else None
        return Analysis.with_model().filter(slide=self, is_current=True).first()

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6
