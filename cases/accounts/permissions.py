"""Who may read every case, and whether an account is still what it was."""

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


def is_as_read(user: User) -> bool:
    """Whether the account is active and has the password and the standing that it had when ``user`` was read."""
    same = {name: getattr(user, name) for name in ("password", "is_superuser", "is_staff")}
    return get_user_model().objects.filter(pk=user.pk, is_active=True, **same).exists()


def lock(user: User) -> User:
    """The account as it is now, within a transaction and for no other's change until that ends.

    Raises ``PermissionDenied`` where it was deactivated or got another password since ``user`` was read: what is sent
    slowly, or at the same moment, must not outlive that.
    """
    found = get_user_model().objects.select_for_update(no_key=True).filter(pk=user.pk, is_active=True).first()
    if found is None or found.password != user.password:
        raise PermissionDenied("The account was changed meanwhile. Sign in again.")
    return found


def create_reviewers(**kwargs: Any) -> None:
    """After migrating: the group whose members read every case and enter the admin."""
    # Django makes the permissions in the same signal, for this app later than now.
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
    """Active people who may read every case."""
    permission = Q(codename="review_cases", content_type__app_label="cases")
    granted = Permission.objects.filter(permission)
    people = get_user_model().objects.filter(is_active=True)
    may = Q(is_superuser=True) | Q(groups__permissions__in=granted) | Q(user_permissions__in=granted)
    return people.filter(may).distinct().order_by("username")
