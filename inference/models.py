"""Model versions, analyses with their patches, and the state of queue and workers."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from numpy.typing import NDArray

from .engine.checkpoint import Metadata
from .engine.grid import MAX_OVERLAP, Grid


class ModelVersionManager(models.Manager["ModelVersion"]):
    """Defers the metadata, some 40 kB of training record, until it is accessed."""

    def get_queryset(self) -> models.QuerySet[ModelVersion]:
        return super().get_queryset().defer("metadata")


class ModelVersion(models.Model):
    """A registered checkpoint file. At most one is active: new analyses use it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    version = models.CharField(max_length=50)
    file = models.CharField(max_length=255, help_text="File name within the model directory.")
    sha256 = models.CharField("SHA-256", max_length=64, unique=True)
    metadata = models.JSONField(default=dict)
    cut_low = models.FloatField(default=0.5)
    cut_high = models.FloatField(default=0.5)
    calibrated = models.BooleanField(default=False)
    is_active = models.BooleanField("active", default=False)
    added_at = models.DateTimeField("added", default=timezone.now, editable=False)

    objects = ModelVersionManager()

    class Meta:
        ordering = ["-added_at"]
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="one_active_model"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def path(self) -> str:
        return str(settings.MODEL_DIR / self.file)

    @property
    def short_sha256(self) -> str:
        return self.sha256[:12]

    @property
    def info(self) -> Metadata:
        """The checkpoint's metadata, typed."""
        return Metadata.from_json(json.dumps(self.metadata))


class State(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


#: States of an analysis that has not ended.
OPEN = (State.QUEUED, State.RUNNING)


class Verdict(models.TextChoices):
    BENIGN = "benign", "Benign"
    MALIGNANT = "malignant", "Malignant"
    INDETERMINATE = "indeterminate", "Indeterminate"
    OUT_OF_DOMAIN = "out_of_domain", "Not H&E breast tissue"


def in_domain(field: str) -> models.Case:
    """An expression for ordering by ``field``: null for out-of-domain results, where its value has no meaning."""
    return models.Case(models.When(~Q(verdict=Verdict.OUT_OF_DOMAIN), then=models.F(field)))


class Analysis(models.Model):
    """One run of one model version on one slide. The table is also the queue.

    Probabilities are of malignancy, 0 to 1. ``raw_probability`` is the mean over the patches with tissue, weighted by
    their share of tissue; ``probability`` is the calibrated value. Both are null until the analysis is done; for an
    out-of-domain slide ``probability`` is 0.5 and ``confidence`` 0. ``patches_done`` and ``patches_total`` count only
    the patches that are run, which are those with tissue. ``turn`` is the virtual start time in the queue, see
    :mod:`inference.jobs.fairness`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slide = models.ForeignKey("cases.Slide", on_delete=models.CASCADE, related_name="analyses")
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="analyses")
    is_current = models.BooleanField(default=True)
    overlap = models.FloatField(default=0.0, validators=[MinValueValidator(0.0), MaxValueValidator(MAX_OVERLAP)])

    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    #: Primary key of the slide's owner; null in analyses requested by older versions.
    person = models.BigIntegerField(null=True, editable=False)
    turn = models.PositiveBigIntegerField(default=0)
    queued_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    claim = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    patches_done = models.PositiveIntegerField(default=0)
    patches_total = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)

    runtime = models.CharField(max_length=60, blank=True)
    verdict = models.CharField(max_length=15, choices=Verdict.choices, blank=True)
    probability = models.FloatField(null=True, blank=True)
    raw_probability = models.FloatField(null=True, blank=True)
    confidence = models.FloatField(null=True, blank=True)
    benign_patches = models.PositiveIntegerField(null=True, blank=True)
    malignant_patches = models.PositiveIntegerField(null=True, blank=True)
    #: Null in analyses by older versions, which ran every patch.
    empty_patches = models.PositiveIntegerField(null=True, blank=True)
    warnings = models.JSONField(default=list, blank=True)
    seconds = models.FloatField(null=True, blank=True, help_text="From the first patch to the last.")

    class Meta:
        verbose_name_plural = "analyses"
        ordering = ["-queued_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["slide"], condition=Q(is_current=True), name="one_current_analysis_a_slide"
            ),
        ]
        indexes = [
            models.Index(fields=["turn", "queued_at"], condition=Q(state="queued"), name="analysis_queue"),
            models.Index(fields=["lease_until"], condition=Q(state="running"), name="analysis_leases"),
            # For the open analyses of one user, and for those of all users that ended recently.
            models.Index(fields=["person", "finished_at"], name="analysis_of_person"),
            models.Index(fields=["finished_at"], name="analysis_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()} analysis of {self.slide_id}"

    @classmethod
    def with_model(cls) -> models.QuerySet[Analysis]:
        """Analyses joined with their model version, without its metadata."""
        return cls.objects.select_related("model_version").defer("model_version__metadata")

    @property
    def is_open(self) -> bool:
        """Whether the analysis is queued or running."""
        return self.state in OPEN

    @property
    def tissue_patches(self) -> int | None:
        """Number of patches with tissue, which are those that were run; None if the analysis is not done."""
        return self.patches_total if self.state == State.DONE else None

    @property
    def all_patches(self) -> int:
        """Number of patches in the grid of a finished analysis, with and without tissue."""
        return self.patches_total + (self.empty_patches or 0)

    @property
    def expected_patches(self) -> int:
        """Number of patches in the grid, computed from the size of the slide, which must be loaded."""
        return len(Grid(self.slide.width, self.slide.height, self.overlap))

    @property
    def percent(self) -> int:
        return round(100 * self.patches_done / self.patches_total) if self.patches_total else 0


class UserQueueState(models.Model):
    """The virtual finish time of a user's latest begun analysis; see :mod:`inference.jobs.fairness`.

    ``person`` is a user's primary key. The row of :attr:`ALL` holds the current virtual time of the queue.
    """

    ALL = 0

    person = models.BigIntegerField(primary_key=True)
    end = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.person}: {self.end}"


class PatchTable(models.Model):
    """Patch values of a finished analysis, in a separate table so that lists of analyses stay fast."""

    analysis = models.OneToOneField(Analysis, on_delete=models.CASCADE, primary_key=True, related_name="patches")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    malignant_bytes = models.BinaryField()
    activation_bytes = models.BinaryField()
    #: Empty in rows written by older versions, which did not measure tissue.
    tissue_bytes = models.BinaryField(default=b"")

    def __str__(self) -> str:
        return f"patches of {self.analysis_id}"

    @property
    def grid(self) -> Grid:
        return Grid(self.width, self.height, self.analysis.overlap)

    @property
    def malignant(self) -> NDArray[np.float32]:
        """Raw probability of malignancy of each patch, float32 (N,), in the grid's order; NaN without tissue."""
        return np.frombuffer(bytes(self.malignant_bytes), dtype="<f4")

    @property
    def activation(self) -> NDArray[np.float16]:
        """Evidence for malignancy in logits, float16 (N, 7, 7), in the grid's order; NaN without tissue."""
        return np.frombuffer(bytes(self.activation_bytes), dtype="<f2").reshape(-1, 7, 7)

    @property
    def tissue(self) -> NDArray[np.float32] | None:
        """Share of tissue of each patch, float32 (N,), 0 to 1, in the grid's order; None if it was not measured."""
        return np.frombuffer(bytes(self.tissue_bytes), dtype="<f4") if self.tissue_bytes else None

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per patch: ``index``, ``x`` and ``y`` (pixels, top left), ``malignant`` (raw probability, None
        without tissue) and ``tissue`` (share of tissue, None if it was not measured)."""
        malignant = [None if np.isnan(value) else float(value) for value in self.malignant]
        tissue = [None] * len(malignant) if self.tissue is None else self.tissue.tolist()
        return [
            {"index": index, "x": int(x), "y": int(y), "malignant": value, "tissue": share}
            for index, ((x, y), value, share) in enumerate(zip(self.grid.positions, malignant, tissue, strict=True))
        ]


class Cluster(models.Model):
    """A running cluster of worker processes; ``seen_at`` is its last heartbeat."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    #: Whether the INT8 or bf16 form of the model is damaged there or failed its check: a slower one may be used.
    fell_back = models.BooleanField(default=False)

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.host} ({self.pid})"
