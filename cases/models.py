"""What people keep: cases, their slides, and what a person reads in them."""

from __future__ import annotations

import uuid
import zoneinfo
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Count, Prefetch
from django.urls import reverse
from django.utils import timezone

from inference.models import Analysis, ModelVersion, Verdict

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


class Magnification(models.TextChoices):
    UNKNOWN = "unknown", "Unknown"
    X40 = "40X", "40×"
    X100 = "100X", "100×"
    X200 = "200X", "200×"
    X400 = "400X", "400×"


class Theme(models.TextChoices):
    AUTO = "auto", "As the system"
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"“{name}” is no time zone. Examples: UTC, Europe/Berlin.")


class User(AbstractUser):
    """A person with an account, and how they like the portal."""

    theme = models.CharField(max_length=5, choices=Theme.choices, default=Theme.AUTO)
    default_magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    time_zone = models.CharField(
        max_length=50, blank=True, validators=[validate_time_zone], help_text="The server’s own where it is empty."
    )
    show_hints = models.BooleanField("show the first steps above the cases", default=True)

    #: Whether the password that was saved last ended API tokens.
    tokens_ended = False
    #: What the database held of this row when it was read or written last, by field.
    _kept: dict[str, Any] = {}

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        user = super().from_db(*args, **kwargs)
        user._remember()
        return user

    def refresh_from_db(self, using: str | None = None, fields: Any = None, from_queryset: Any = None) -> None:
        super().refresh_from_db(using, fields, from_queryset)
        self._remember(fields)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Writes what was changed since it was read and nothing else: who sends a form slowly brings back neither
        rights, password or address that an administrator took meanwhile, nor an account that was erased."""
        if not self._state.adding and kwargs.get("update_fields") is None:
            kwargs["update_fields"] = [
                name for name, value in self._values().items() if name not in self._kept or self._kept[name] != value
            ]
        written, has_new_password = kwargs.get("update_fields"), self._password is not None
        super().save(*args, **kwargs)
        self._remember(written)
        if has_new_password:
            # Whoever set it where: who knew the old one may have made a token with it.
            self.tokens_ended = bool(ApiToken.objects.filter(user=self).delete()[0])

    def _values(self) -> dict[str, Any]:
        loaded = self.__dict__
        fields = self._meta.concrete_fields
        return {f.attname: loaded[f.attname] for f in fields if not f.primary_key and f.attname in loaded}

    def _remember(self, fields: Iterable[str] | None = None) -> None:
        values = self._values()
        kept = values if fields is None else {name: values[name] for name in fields if name in values}
        self._kept = {**self._kept, **kept}

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        # Django's mark of a new password that was not saved yet.
        self._password = ""

    @property
    def signature(self) -> str:
        """The name that they give themselves, and the one by which they are known."""
        name = self.get_full_name()
        return f"{name} ({self.username})" if name else self.username

    @property
    def is_reviewer(self) -> bool:
        """Whether this person reads every case, not only their own."""
        return self.has_perm("cases.review_cases")


class Tag(models.Model):
    """A word by which one person sorts their cases."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=30)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_tag_a_name")]

    def __str__(self) -> str:
        return self.name


class CaseQuerySet(models.QuerySet["Case"]):
    def visible_to(self, user: User | AnonymousUser) -> CaseQuerySet:
        """All cases for a reviewer, one's own for anybody else, none for nobody."""
        if not isinstance(user, User) or not user.is_active:
            return self.none()
        return self if user.is_reviewer else self.filter(owner=user)

    def editable_by(self, user: User | AnonymousUser) -> CaseQuerySet:
        """One's own: a reviewer reads what others keep and changes none of it."""
        if not isinstance(user, User) or not user.is_active:
            return self.none()
        return self.filter(owner=user)

    def for_change(self) -> CaseQuerySet:
        """Held until the transaction ends: what a form finds true of a case is still so when it is saved, and what
        somebody else changes meanwhile is not undone."""
        return self.select_for_update(no_key=True, of=("self",))

    def still_blind(self) -> CaseQuerySet:
        """Those whose readings are hidden, until two people have signed; :func:`cases.services.is_blind` for one."""
        return (
            self.filter(is_blinded=True).annotate(readers=Count("reviews__author", distinct=True)).filter(readers__lt=2)
        )


class Case(models.Model):
    """Slides that belong together, usually of one patient.

    The aggregate (``verdict``, ``probability`` and the counts) is derived from the slides' current
    analyses by :func:`cases.services.refresh` and kept here so that a history of thousands of cases
    is one query.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="cases")
    title = models.CharField(max_length=120)
    patient = models.CharField(
        "patient pseudonym", max_length=60, blank=True, help_text="Never a name, birth date or record number."
    )
    notes = models.TextField("clinical notes", max_length=5000, blank=True)
    magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    overlap = models.FloatField(default=0.0, help_text="Least share of a patch that neighbours have in common.")
    is_synthetic = models.BooleanField(default=False, editable=False)
    tags = models.ManyToManyField(Tag, blank=True, related_name="cases")
    assigned_to = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="assigned_cases"
    )
    is_blinded = models.BooleanField(
        "blinded double reading",
        default=False,
        help_text="Until two people have signed a reading, each sees only their own.",
    )
    is_teaching = models.BooleanField("teaching case", default=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    updated_at = models.DateTimeField("updated", auto_now=True)

    verdict = models.CharField(max_length=15, choices=Verdict.choices, blank=True, editable=False)
    probability = models.FloatField(null=True, blank=True, editable=False)
    slide_count = models.PositiveIntegerField(default=0, editable=False)
    open_count = models.PositiveIntegerField(default=0, editable=False)
    failed_count = models.PositiveIntegerField(default=0, editable=False)

    #: Written by :func:`cases.services.refresh` alone.
    DERIVED = ("verdict", "probability", "slide_count", "open_count", "failed_count")

    objects = CaseQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        permissions = [("review_cases", "Can read every case")]
        indexes = [models.Index(fields=["owner", "-created_at"], name="case_history")]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Leaves alone what is derived: a form that was read before an analysis ended must not undo it."""
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
        """Blinding ends by a second reading, not by a tick: who reads second could look and then sign. And it begins
        before the first: else a case that was open would seem to have been read blind."""
        if self._state.adding:
            return
        was_blinded = Case.objects.filter(pk=self.pk, is_blinded=True).exists()
        readers = self.reviews.values("author").distinct().count()
        if was_blinded and not self.is_blinded and readers == 1:
            raise ValidationError(
                {"is_blinded": "One person has signed a reading; it stays blinded until a second has."}
            )
        if self.is_blinded and not was_blinded and readers:
            raise ValidationError(
                {"is_blinded": "Somebody has signed a reading already; a case is blinded before the first."}
            )

    @property
    def state(self) -> str:
        """``empty``, ``running``, ``failed`` (some slide has no result), or ``done``."""
        if not self.slide_count:
            return "empty"
        if self.open_count:
            return "running"
        return "failed" if self.failed_count else "done"

    @property
    def confidence(self) -> float | None:
        """The larger of both calibrated probabilities; 0 out of domain, None before a verdict."""
        if self.probability is None:
            return None
        if self.verdict == Verdict.OUT_OF_DOMAIN:
            return 0.0
        return max(self.probability, 1.0 - self.probability)


def random_name(slide: Slide, filename: str) -> str:
    """Where a slide's pixels are kept; nothing of the original name is in it."""
    name = uuid.uuid4().hex
    return f"slides/{name[:2]}/{name}.png"


def random_thumbnail_name(slide: Slide, filename: str) -> str:
    name = uuid.uuid4().hex
    return f"thumbnails/{name[:2]}/{name}.jpg"


class SlideQuerySet(models.QuerySet["Slide"]):
    def with_analysis(self) -> SlideQuerySet:
        """With the current analysis of each, in one further query; see :attr:`Slide.analysis`."""
        current = Analysis.with_model().filter(is_current=True)
        return self.prefetch_related(Prefetch("analyses", current, to_attr="current_analyses"))

    def visible_to(self, user: User | AnonymousUser) -> SlideQuerySet:
        return self.filter(case__in=Case.objects.visible_to(user))

    def editable_by(self, user: User | AnonymousUser) -> SlideQuerySet:
        return self.filter(case__in=Case.objects.editable_by(user))


class Slide(models.Model):
    """One uploaded image. Its file holds the pixels alone, rebuilt as PNG; the upload's SHA-256 is kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="slides")
    original_name = models.CharField("file name", max_length=255)
    file = models.FileField(upload_to=random_name, editable=False, max_length=200)
    thumbnail = models.FileField(upload_to=random_thumbnail_name, editable=False, max_length=200)
    sha256 = models.CharField("SHA-256 of the upload", max_length=64, editable=False)
    stored_sha256 = models.CharField("SHA-256 of the stored file", max_length=64, blank=True, editable=False)
    format = models.CharField(max_length=10, editable=False)
    size = models.PositiveBigIntegerField("bytes uploaded", editable=False)
    width = models.PositiveIntegerField(editable=False)
    height = models.PositiveIntegerField(editable=False)
    magnification = models.CharField(max_length=7, choices=Magnification.choices, default=Magnification.UNKNOWN)
    added_at = models.DateTimeField("added", default=timezone.now, editable=False)

    current_analyses: list[Analysis]

    objects = SlideQuerySet.as_manager()

    class Meta:
        ordering = ["added_at", "original_name"]

    def __str__(self) -> str:
        return self.original_name

    def get_absolute_url(self) -> str:
        return reverse("cases:slide", args=[self.pk])

    @property
    def analysis(self) -> Analysis | None:
        """The current analysis; from :meth:`SlideQuerySet.with_analysis` where that was used."""
        if hasattr(self, "current_analyses"):
            return self.current_analyses[0] if self.current_analyses else None
        return Analysis.with_model().filter(slide=self, is_current=True).first()

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


class Reading(models.TextChoices):
    BENIGN = "benign", "Benign"
    MALIGNANT = "malignant", "Malignant"
    UNCERTAIN = "uncertain", "Uncertain"


class Review(models.Model):
    """A person's own reading of a case, signed by the account that wrote it and never overwritten."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="reviews")
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="reviews")
    reading = models.CharField(max_length=10, choices=Reading.choices)
    subtype = models.CharField(max_length=60, blank=True)
    comment = models.TextField(max_length=5000, blank=True)
    created_at = models.DateTimeField("signed", default=timezone.now, editable=False)
    was_blind = models.BooleanField(
        "signed blind",
        default=False,
        editable=False,
        help_text="Other people's readings of the case were hidden when this one was signed.",
    )
    #: What the model said of the case when the reading was signed.
    verdict = models.CharField(max_length=15, choices=Verdict.choices, blank=True, editable=False)
    probability = models.FloatField(null=True, blank=True, editable=False)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.get_reading_display()} by {self.author}"

    @property
    def agrees(self) -> bool | None:
        """Whether person and model say the same; None where either does not decide."""
        decided = (Verdict.BENIGN, Verdict.MALIGNANT)
        if self.verdict not in decided or self.reading == Reading.UNCERTAIN:
            return None
        return self.reading == self.verdict


class Report(models.Model):
    """A report that was made of a case, by which a printed copy can be checked.

    ``sha256`` is of the case's content as exported at that moment (see :mod:`cases.report`).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="reports")
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    sha256 = models.CharField("SHA-256 of the content", max_length=64)
    #: See :data:`cases.report.FORM`.
    form = models.PositiveSmallIntegerField(default=1, editable=False)
    created_at = models.DateTimeField("made", default=timezone.now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Report {self.sha256[:12]}"

    def get_absolute_url(self) -> str:
        return reverse("cases:verify", args=[self.pk])


# Kept in modules of their own; Django finds models here.
from .removal import Removal as Removal  # noqa: E402
from .submissions import Submission as Submission  # noqa: E402
from .tokens import ApiToken as ApiToken  # noqa: E402
from .trail import Event as Event  # noqa: E402
from .trail import Identity as Identity  # noqa: E402
from .trail import Seal as Seal  # noqa: E402
