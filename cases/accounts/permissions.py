"""The reviewers' group, and checks that an account has not changed since it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet

if TYPE_CHECKING:
    from cases.models import User

REVIEWERS = "Reviewers"


def is_unchanged(user: User) -> bool:
    """Whether the account is still active, with the password and the staff rights that ``user`` was read with."""
    same = {name: getattr(user, name) for name in ("password", "is_superuser", "is_staff")}
    return get_user_model().objects.filter(pk=user.pk, is_active=True, **same).exists()


def lock(user: User) -> User:
    """Lock the account's row until the transaction ends and return its current state.

    Raises ``PermissionDenied`` if the account was deactivated or its password changed since ``user`` was read: a
    request that was sent slowly must not take effect after that.
    """
    found = get_user_model().objects.select_for_update(no_key=True).filter(pk=user.pk, is_active=True).first()
    if found is None or found.password != user.password:
        raise PermissionDenied("Your account was changed in the meantime. Sign in again.")
    return found


def create_reviewers(**kwargs: Any) -> None:
    """After ``migrate``: create the group whose members may read every case and use the administration."""
    # Django creates the permissions in the same signal, but later for this app.
    create_permissions(kwargs["app_config"], verbosity=0, using=kwargs.get("using", "default"))
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


def reviewers() -> QuerySet[Any]:
    """Active users who may read every case."""
    permission = Q(codename="review_cases", content_type__app_label="cases")
    granted = Permission.objects.filter(permission)
    people = get_user_model().objects.filter(is_active=True)
    may = Q(is_superuser=True) | Q(groups__permissions__in=granted) | Q(user_permissions__in=granted)
    return people.filter(may).distinct().order_by("username")
