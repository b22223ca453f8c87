"""Base classes and helpers of the administration."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cases.models import Case, User
from cases.templatetags.portal import icon, percent
from inference.admin import PlainAdmin
from inference.models import Analysis, Verdict


def person(request: HttpRequest) -> User:
    """The user of the administration, who is always signed in."""
    assert isinstance(request.user, User)
    return request.user


def verdict_mark(verdict: str, label: str) -> SafeString | str:
    """A result as an icon with its label."""
    return format_html('<span class="hp-verdict hp-{}">{} {}</span>', verdict, icon(verdict), label) if verdict else "–"


def chance(judged: Analysis | Case | None, name: str) -> str:
    """``probability`` or ``confidence`` as a percentage; a dash without a result or if not H&E breast tissue."""
    if judged is None or judged.verdict == Verdict.OUT_OF_DOMAIN:
        return "–"
    return percent(getattr(judged, name))


class Erasing(PlainAdmin):
    """Deletes related rows without requiring further permissions. The confirmation page shows only their number,
    because they may include readings that are still blind."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        _, counts, _, _ = super().get_deleted_objects(objs, request)
        return [str(one) for one in objs], counts, set(), []


def is_form_of(request: HttpRequest, page: str) -> bool:
    """Whether the request is for an admin page of this kind: ``change``, ``delete`` or ``history``."""
    return request.resolver_match is not None and request.resolver_match.view_name.endswith(f"_{page}")


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
