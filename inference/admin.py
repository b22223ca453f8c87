"""Analyses, model versions and worker clusters, read-only except for activating a model."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from . import registry
from .engine.checkpoint import CheckpointError
from .models import Analysis, Cluster, ModelVersion, Verdict, in_domain


class PlainAdmin(admin.ModelAdmin):
    """Rejects regular expressions in query strings, which could overload the database, and invalid primary keys."""

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        try:
            for row in request.POST.getlist("_selected_action"):
                self.opts.pk.clean(row, None)
        except ValidationError:
            self.message_user(request, "Nothing was changed: there is no such row.", messages.ERROR)
            return None
        return super().response_action(request, *args, **kwargs)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        # One at a time: Django logs several with bulk_create, which sends no signal to the audit trail.
        for one in queryset:
            super().log_deletions(request, [one])  # type: ignore[arg-type]  # Django itself passes a list

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return not lookup.endswith("regex") and super().lookup_allowed(lookup, value, request)


class ReadOnlyAdmin(PlainAdmin):
    """Shows records that must not be changed."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ErrorCodeFilter(admin.SimpleListFilter):
    """Filter by the error codes in use. Django's own filter would also show the empty code, as a link without text."""

    title = "error code"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        codes = Analysis.objects.exclude(error_code="").values_list("error_code", flat=True)
        return [(code, code) for code in codes.order_by("error_code").distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Analysis]) -> QuerySet[Analysis]:
        return queryset.filter(error_code=self.value()) if self.value() else queryset


def _share(analysis: Analysis, share: float | None) -> str:
    """The number to three decimals; a dash if there is none or if the image is out of domain."""
    return "–" if share is None or analysis.verdict == Verdict.OUT_OF_DOMAIN else f"{share:.3f}"


@admin.register(Analysis)
class AnalysisAdmin(ReadOnlyAdmin):
    list_display = [
        "slide_link", "state", "progress", "verdict", "p_malignant", "sure", "model_version", "runtime", "attempts",
        "queued_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["state", "verdict", "is_current", "model_version", ErrorCodeFilter]
    # The first column already links to the slide.
    list_display_links = ["state"]
    search_fields = ["slide__original_name", "error"]
    date_hierarchy = "queued_at"
    list_select_related = ["slide", "model_version"]
    list_per_page = 50

    @admin.display(description="slide", ordering="slide__original_name")
    def slide_link(self, analysis: Analysis) -> SafeString:
        address = reverse("admin:cases_slide_change", args=[analysis.slide_id])
        return format_html('<a href="{}">{}</a>', address, analysis.slide)

    @admin.display
    def progress(self, analysis: Analysis) -> str:
        return f"{analysis.patches_done} / {analysis.patches_total}" if analysis.patches_total else "–"

    @admin.display(description="P(malignant)", ordering=in_domain("probability"))
    def p_malignant(self, analysis: Analysis) -> str:
        return _share(analysis, analysis.probability)

    @admin.display(description="confidence", ordering=in_domain("confidence"))
    def sure(self, analysis: Analysis) -> str:
        return _share(analysis, analysis.confidence)


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ["name", "version", "is_active", "calibrated", "thresholds", "short", "added_at"]
    list_filter = ["is_active", "calibrated"]
    actions = ["activate"]

    def has_activate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inference.change_modelversion")

    @admin.display
    def thresholds(self, model: ModelVersion) -> str:
        return f"{model.cut_low:.3f} / {model.cut_high:.3f}"

    @admin.display(description="SHA-256")
    def short(self, model: ModelVersion) -> str:
        return model.short_sha256

    @admin.action(description="Activate the selected version", permissions=["activate"])
    def activate(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        if queryset.count() != 1:
            self.message_user(request, "Select exactly one version.", messages.WARNING)
            return
        model = queryset.get()
        try:
            registry.activate(model)
        except CheckpointError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.log_change(request, model, "Activated")
        self.message_user(request, f"{model} is now active.", messages.SUCCESS)


@admin.register(Cluster)
class ClusterAdmin(ReadOnlyAdmin):
    list_display = ["host", "pid", "started_at", "seen_at"]
