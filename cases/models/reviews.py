"""Signed readings and printed reports."""

from __future__ import annotations

import uuid

from django.db import models
from django.urls import reverse
from django.utils import timezone

from cases.models.cases import Case
from cases.models.choices import Reading
from cases.models.users import User
from inference.models import ModelVersion, Verdict


class Review(models.Model):
    """A signed reading: one person's opinion on a case. Never overwritten."""

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
    #: The case result when the reading was signed.
    verdict = models.CharField("case result", max_length=15, choices=Verdict.choices, blank=True, editable=False)
    probability = models.FloatField(null=True, blank=True, editable=False)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "reading"

    def __str__(self) -> str:
        return f"{self.get_reading_display()} by {self.author}"

    @property
    def agrees(self) -> bool | None:
        """Whether reading and case result agree; None if either is not definite."""
        decided = (Verdict.BENIGN, Verdict.MALIGNANT)
        if self.verdict not in decided or self.reading == Reading.UNCERTAIN:
            return None
        return self.reading == self.verdict


class Report(models.Model):
    """A printed report, kept so that a printed copy can be verified.

    ``sha256`` is the checksum of the case's content at that time (see :mod:`cases.reporting.pdf`).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="reports")
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    sha256 = models.CharField("SHA-256 of the content", max_length=64)
    #: See :data:`cases.reporting.pdf.FORM`.
    form = models.PositiveSmallIntegerField(default=1, editable=False)
    created_at = models.DateTimeField("created", default=timezone.now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Report {self.sha256[:12]}"

    def get_absolute_url(self) -> str:
        return reverse("cases:verify", args=[self.pk])
