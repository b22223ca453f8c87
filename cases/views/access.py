"""Which case or slide a request may have: 404 for everybody else, as if it were not there."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from cases.models import Case, Slide, User


class SignedInRequest(HttpRequest):
    """A request behind ``login_required``."""

    user: User  # type: ignore[assignment]


def get_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """A case this person may read."""
    return get_object_or_404(Case.objects.visible_to(user).select_related("owner", "assigned_to"), pk=pk)


def get_own_case(user: User | AnonymousUser, pk: uuid.UUID) -> Case:
    """A case this person may change."""
    return get_object_or_404(Case.objects.editable_by(user), pk=pk)


def get_slide(user: User | AnonymousUser, pk: uuid.UUID) -> Slide:
    """A slide this person may read."""
    return get_object_or_404(Slide.objects.visible_to(user).select_related("case", "case__owner"), pk=pk)


def get_own_slide(user: User | AnonymousUser, pk: uuid.UUID) -> Slide:
    """A slide this person may change."""
    return get_object_or_404(Slide.objects.editable_by(user).select_related("case"), pk=pk)
