"""What the pages of the administration have in common."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cases.models import Case
from cases.templatetags.portal import icon, percent
from inference.admin import PlainAdmin
from inference.models import Analysis, Verdict


def verdict_mark(verdict: str, label: str) -> SafeString | str:
    """A verdict as shape and word."""
    return format_html('<span class="hp-verdict hp-{}">{} {}</span>', verdict, icon(verdict), label) if verdict else "–"


def chance(judged: Analysis | Case | None, name: str) -> str:
    """``probability`` or ``confidence`` of what has a verdict, in per cent; none out of domain, where it is none."""
    is_none = judged is None or judged.verdict == Verdict.OUT_OF_DOMAIN
    return "–" if is_none else percent(getattr(judged, name))


class Erasing(PlainAdmin):
    """Who may delete one of these deletes what belongs to it, whatever else they may do with that; and the page that
    asks counts it, but does not show it: there may be hidden readings in it."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        _, counts, _, _ = super().get_deleted_objects(objs, request)
        return [str(one) for one in objs], counts, set(), []


def _log_deletions(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
    """One by one: several at once Django writes past the signal by which the trail hears of them."""
    for one in queryset:
        LogEntry.objects.log_actions(request.user.pk, [one], DELETION)  # type: ignore[arg-type]  # a signed-in user has a key


admin.ModelAdmin.log_deletions = _log_deletions  # type: ignore[method-assign, assignment]


def is_form_of(request: HttpRequest, page: str) -> bool:
    """Whether this is a request of one of the administration's pages: ``change``, ``delete``, ``history``."""
    return request.resolver_match is not None and request.resolver_match.view_name.endswith(f"_{page}")


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
