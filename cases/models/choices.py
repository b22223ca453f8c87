"""Choices shared by several models."""

from __future__ import annotations

from django.db import models


class Magnification(models.TextChoices):
    UNKNOWN = "unknown", "Unknown"
    X40 = "40X", "40×"
    X100 = "100X", "100×"
    X200 = "200X", "200×"
    X400 = "400X", "400×"


class CaseState(models.TextChoices):
    """State of a case's analyses; :meth:`cases.models.CaseQuerySet.in_state` defines each value."""

    RUNNING = "running", "In progress"
    DONE = "done", "Finished"
    FAILED = "failed", "With failures"
    EMPTY = "empty", "Without images"


class Theme(models.TextChoices):
    AUTO = "auto", "System"
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"


class Reading(models.TextChoices):
    BENIGN = "benign", "Benign"
    MALIGNANT = "malignant", "Malignant"
    UNCERTAIN = "uncertain", "Uncertain"
