"""People and their words: erased with all that belongs to them."""

from __future__ import annotations

from typing import Any

import allauth.usersessions.admin  # noqa: F401  registers what is replaced here
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
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


admin.site.unregister(UserSession)


@admin.register(UserSession)
class SessionAdmin(PlainAdmin):
    """Where somebody is signed in. Who deletes a line here means the session."""

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


@admin.register(User)
class PersonAdmin(Erasing, UserAdmin):
    list_display = ["username", "email", "full_name", "roles", "is_active", "last_login"]
    fieldsets = (
        *(UserAdmin.fieldsets or ()),
        ("Portal", {"fields": ["theme", "default_magnification", "time_zone"]}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One's own account goes on the portal's page, which keeps the last administrator.
        return super().has_delete_permission(request, obj) and obj != request.user

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        if self.get_object(request, unquote(id)) == request.user:
            # One's own takes the old one.
            return redirect("account_change_password")
        return super().user_change_password(request, id, form_url)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "email" in form.changed_data:
            # The old ones would still open the account: by a link for a new password, and at the sign-in.
            EmailAddress.objects.filter(user=obj).exclude(email__iexact=obj.email).delete()
            if obj.email:
                EmailAddress.objects.update_or_create(user=obj, email=obj.email.lower(), defaults={"primary": True})

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        # With cases, files and what the trail says in words, as when they do it themselves.
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
