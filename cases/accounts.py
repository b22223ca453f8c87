"""Who may sign up, and who is a reviewer."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.http import HttpRequest

REVIEWERS = "Reviewers"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """allauth's hooks."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_OPEN)


def create_reviewers(**kwargs: Any) -> None:
    """After migrating: the group whose members read every case and enter the admin."""
    group, created = Group.objects.get_or_create(name=REVIEWERS)
    if created:
        group.permissions.set(
            Permission.objects.filter(
                codename__in=[
                    "review_cases",
                    "view_case",
                    "change_case",
                    "view_slide",
                    "view_review",
                    "view_analysis",
                    "view_modelversion",
                ]
            )
        )
