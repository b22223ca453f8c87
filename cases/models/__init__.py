"""The models, by subject. Import them from here."""

from cases.models.audit import AuditCheckpoint, AuditEvent, Pseudonym
from cases.models.cases import (
    Case,
    CaseQuerySet,
    Slide,
    SlideQuerySet,
    Tag,
    random_name,
    random_thumbnail_name,
)
from cases.models.choices import CaseState, Magnification, Reading, Theme
from cases.models.deletion import PendingFileDeletion
from cases.models.reviews import Report, Review
from cases.models.submissions import Submission
from cases.models.tokens import ApiToken
from cases.models.users import User, validate_time_zone

__all__ = [
    "ApiToken",
    "AuditCheckpoint",
    "AuditEvent",
    "Case",
    "CaseQuerySet",
    "CaseState",
    "Magnification",
    "PendingFileDeletion",
    "Pseudonym",
    "Reading",
    "Report",
    "Review",
    "Slide",
    "SlideQuerySet",
    "Submission",
    "Tag",
    "Theme",
    "User",
    "random_name",
    "random_thumbnail_name",
    "validate_time_zone",
]
