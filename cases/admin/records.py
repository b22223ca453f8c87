"""Slides, readings and reports in the administration, read-only."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cases import services
from cases.models import Case, Report, Review, Slide
from inference.admin import ReadOnlyAdmin
from inference.models import Analysis

from .parts import Erasing, ReadOnlyInline, chance, person, verdict_mark


class AnalysisInline(ReadOnlyInline):
    model = Analysis
    readonly_fields = [
        "queued_at",
        "state",
        "is_current",
        "model_version",
        "verdict",
        "probability",
        "confidence",
        "error",
    ]
    fields = tuple(readonly_fields)


@admin.register(Slide)
class SlideAdmin(Erasing):
    list_display = ["picture", "original_name", "case", "said", "p_malignant", "size_text", "added_at"]
    list_display_links = ["original_name"]
    list_filter = ["analyses__verdict", "analyses__state", "format", "magnification"]
    search_fields = ["original_name", "sha256", "case__title", "case__owner__username"]
    date_hierarchy = "added_at"
    list_select_related = ["case"]
    list_per_page = 50
    inlines = [AnalysisInline]
    readonly_fields = [
        "case", "original_name", "picture", "sha256", "format", "size", "width", "height", "magnification", "added_at",
    ]  # fmt: skip
    fields = tuple(readonly_fields)

    class Media:
        css = {"all": ["css/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Slide]:
        return super().get_queryset(request).with_analysis()  # type: ignore[attr-defined]  # Django types the base queryset

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description="")
    def picture(self, slide: Slide) -> SafeString:
        return format_html(
            '<a href="{}"><img class="hp-thumb" src="{}" alt="{}" loading="lazy"></a>',
            slide.get_absolute_url(), reverse("cases:thumbnail", args=[slide.pk]), slide.original_name,
        )  # fmt: skip

    @admin.display(description="result")
    def said(self, slide: Slide) -> SafeString | str:
        found = slide.analysis
        return verdict_mark(found.verdict, found.get_verdict_display()) if found else "–"

    @admin.display(description="P(malignant)")
    def p_malignant(self, slide: Slide) -> str:
        return chance(slide.analysis, "probability")

    @admin.display(description="pixels")
    def size_text(self, slide: Slide) -> str:
        return f"{slide.width} × {slide.height}"

    def delete_model(self, request: HttpRequest, obj: Slide) -> None:
        services.remove_slide(obj, person(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Slide]) -> None:
        for slide in queryset.select_related("case"):
            services.remove_slide(slide, person(request))


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ["case", "author", "reading", "was_blind", "verdict", "agreement", "created_at"]
    list_filter = ["reading", "verdict", ("author", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["case__title", "author__username", "subtype", "comment"]
    date_hierarchy = "created_at"
    list_select_related = ["case", "author"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        reviews = super().get_queryset(request).select_related("case")
        return reviews.exclude(~Q(author=request.user), case__in=Case.objects.still_blind().values("pk"))

    @admin.display(boolean=True, description="agrees with the model")
    def agreement(self, review: Review) -> bool | None:
        return review.agrees


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    list_display = ["case", "author", "sha256", "created_at"]
    date_hierarchy = "created_at"
    list_select_related = ["case", "author"]
