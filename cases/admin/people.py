"""Accounts and what belongs to them."""

from __future__ import annotations

from typing import Any

import allauth.usersessions.admin  # noqa: F401  registers what is replaced here
from allauth.account.admin import EmailAddressAdmin
from allauth.account.models import EmailAddress
from allauth.mfa.admin import AuthenticatorAdmin
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html_join

from cases.models import Tag, User
from cases.services import privacy
from inference.admin import PlainAdmin

from .parts import Erasing


@admin.register(Tag)
class TagAdmin(PlainAdmin):
    list_display = ["name", "owner"]
    search_fields = ["name"]


# Registered again below, with the rules of PlainAdmin.
admin.site.unregister([UserSession, Group, EmailAddress, Authenticator])


@admin.register(Group)
class PlainGroupAdmin(PlainAdmin, GroupAdmin):
    pass


@admin.register(EmailAddress)
class PlainEmailAddressAdmin(PlainAdmin, EmailAddressAdmin):
    pass


@admin.register(Authenticator)
class PlainAuthenticatorAdmin(PlainAdmin, AuthenticatorAdmin):
    pass


@admin.register(UserSession)
class SessionAdmin(PlainAdmin):
    """Sessions of users. Deleting a row ends the session."""

    list_display = ["user", "created_at", "last_seen_at", "ip", "user_agent"]
    search_fields = ["user__username", "ip"]
    list_select_related = ["user"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: UserSession) -> None:
        obj.end()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[UserSession]) -> None:
        for session in queryset:
            session.end()


class PasswordForm(AdminPasswordChangeForm):
    def save(self, commit: bool = True) -> User:
        user: User = super().save(commit=False)
        user.save(update_fields=["password"])
        return user


@admin.register(User)
class PersonAdmin(Erasing, UserAdmin):
    change_password_form = PasswordForm
    list_display = ["username", "email", "full_name", "roles", "is_active", "last_login"]
    fieldsets = (
        *(UserAdmin.fieldsets or ()),
        ("Preferences", {"fields": ["theme", "default_magnification", "time_zone"]}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Users delete their own account on their account page, which protects the last administrator.
        return super().has_delete_permission(request, obj) and obj != request.user

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        if self.get_object(request, unquote(id)) == request.user:
            # Changing one's own password requires the old one.
            return redirect("account_change_password")
        return super().user_change_password(request, id, form_url)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if change:
            columns = {field.name for field in User._meta.concrete_fields}
            obj.save(update_fields=columns & set(form.changed_data))
        else:
            super().save_model(request, obj, form, change)
        if change and "email" in form.changed_data:
            # The old addresses would still allow a password reset and signing in.
            EmailAddress.objects.filter(user=obj).exclude(email__iexact=obj.email).delete()
            if obj.email:
                EmailAddress.objects.update_or_create(user=obj, email=obj.email.lower(), defaults={"primary": True})

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        # Also deletes cases and files, and erases the name in the audit trail.
        privacy.erase(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            if user != request.user:
                privacy.erase(user)

    @admin.display(description="name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display
    def roles(self, user: User) -> str:
        return format_html_join(", ", "{}", ((group.name,) for group in user.groups.all())) or (
            "superuser" if user.is_superuser else "–"
        )
