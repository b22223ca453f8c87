"""Cases in the administration: staff see everything, assign readers and mark teaching cases, but change no results."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cases import services
from cases.accounts.permissions import reviewers
from cases.models import AuditEvent, Case, CaseState, Review, Slide
from cases.services import export
from cases.services.search import PROBABILITY
from cases.web.views.history import analyse_again
from inference.models import Verdict

from .parts import Erasing, ReadOnlyInline, chance, is_form_of, person, verdict_mark


class SlideInline(ReadOnlyInline):
    model = Slide
    readonly_fields = ["picture", "patch_map", "original_name", "state", "verdict", "probability", "confidence"]
    fields = tuple(readonly_fields)
    verbose_name_plural = "slides with maps"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Slide]:
        return super().get_queryset(request).with_analysis()  # type: ignore[attr-defined]  # Django types the base queryset

    @admin.display(description="image")
    def picture(self, slide: Slide) -> SafeString:
        return format_html(
            '<a href="{}"><img class="hp-thumb" src="{}" alt="{}" loading="lazy"></a>',
            slide.get_absolute_url(), reverse("cases:thumbnail", args=[slide.pk]), slide.original_name,
        )  # fmt: skip

    @admin.display(description="patch map")
    def patch_map(self, slide: Slide) -> SafeString | str:
        if not slide.analysis or slide.analysis.verdict in ("", Verdict.OUT_OF_DOMAIN):
            return "–"
        address = reverse("cases:map", args=[slide.pk])
        return format_html('<img class="hp-thumb" src="{}" alt="Patch map" loading="lazy">', address)

    @admin.display
    def state(self, slide: Slide) -> str:
        return slide.analysis.get_state_display() if slide.analysis else "–"

    @admin.display(description="result")
    def verdict(self, slide: Slide) -> SafeString | str:
        found = slide.analysis
        return verdict_mark(found.verdict, found.get_verdict_display()) if found else "–"

    @admin.display(description="P(malignant)")
    def probability(self, slide: Slide) -> str:
        return chance(slide.analysis, "probability")

    @admin.display
    def confidence(self, slide: Slide) -> str:
        return chance(slide.analysis, "confidence")


class ReviewInline(ReadOnlyInline):
    model = Review
    readonly_fields = ["reading", "subtype", "comment", "author", "created_at", "verdict", "probability"]
    fields = tuple(readonly_fields)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        reviews = super().get_queryset(request).select_related("author", "case")
        # A blinded reading stays so in the administration too.
        return reviews.exclude(~Q(author=request.user), case__in=Case.objects.still_blind().values("pk"))


class EventInline(ReadOnlyInline):
    model = AuditEvent
    readonly_fields = ["at", "kind", "actor", "detail"]
    fields = tuple(readonly_fields)
    verbose_name_plural = "timeline"


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(CaseState.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Case]:
        value = self.value()
        return queryset.in_state(value) if value in CaseState.values else queryset


class ReviewedFilter(admin.SimpleListFilter):
    title = "reading"
    parameter_name = "reviewed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "No reading"), ("yes", "Has a reading"), ("mine", "Read by me")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Case]) -> QuerySet[Case]:
        reviewed = Review.objects.all()
        if self.value() == "no":
            return queryset.exclude(pk__in=reviewed.values("case"))
        if self.value() == "yes":
            return queryset.filter(pk__in=reviewed.values("case"))
        if self.value() == "mine":
            return queryset.filter(pk__in=reviewed.filter(author=request.user.pk).values("case"))
        return queryset


@admin.register(Case)
class CaseAdmin(Erasing):
    list_display = [
        "picture", "title", "owner", "said", "p_malignant", "sure", "slide_count", "state", "readings",
        "assigned_to", "is_teaching", "created_at",
    ]  # fmt: skip
    list_display_links = ["title"]
    list_filter = [
        "verdict", StateFilter, ReviewedFilter, "is_teaching", "is_blinded", "magnification",
        ("assigned_to", admin.RelatedOnlyFieldListFilter), ("owner", admin.RelatedOnlyFieldListFilter),
    ]  # fmt: skip
    search_fields = ["title", "patient", "owner__username", "slides__original_name"]
    date_hierarchy = "created_at"
    list_select_related = ["owner", "assigned_to"]
    list_per_page = 50
    inlines = [SlideInline, ReviewInline, EventInline]
    actions = ["rerun", "assign", "mark_for_teaching", "unmark_for_teaching", "export_csv", "export_json"]
    filter_horizontal = ["tags"]
    readonly_fields = [
        "owner", "title", "patient", "notes", "magnification", "overlap", "said", "p_malignant", "sure", "state",
        "slide_count", "created_at", "updated_at", "portal",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["title", "portal", "owner", "patient", "magnification", "overlap", "notes"]}),
        (
            "Result",
            {"fields": [("said", "p_malignant", "sure"), ("state", "slide_count"), ("created_at", "updated_at")]},
        ),
        ("Readings", {"fields": [("assigned_to", "is_blinded", "is_teaching")]}),
    ]

    class Media:
        css = {"all": ["css/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Case]:
        first = Slide.objects.filter(case=OuterRef("pk")).order_by("added_at").values("pk")[:1]
        reviews = Review.objects.filter(case=OuterRef("pk")).order_by().values("case")
        count = Coalesce(Subquery(reviews.annotate(n=Count("pk")).values("n")), 0)
        cases = super().get_queryset(request)
        return cases.annotate(cover=Subquery(first), reading_count=count)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Case | None:
        found = super().get_object(request, object_id, from_field)
        if found and request.method == "POST" and is_form_of(request, "change"):
            # Locked until the form's transaction ends, so that nobody else changes the case before it is saved.
            found = Case.objects.for_change().filter(pk=found.pk).first()
        return found

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        # Notes are not listed, so a filter in the URL must not reveal them word by word.
        return not lookup.startswith("notes") and super().lookup_allowed(lookup, value, request)

    def save_model(self, request: HttpRequest, obj: Case, form: Any, change: bool) -> None:
        before = Case.objects.get(pk=obj.pk)
        super().save_model(request, obj, form, change)
        services.record_reading_changes(obj, before, person(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "assigned_to":
            kwargs["queryset"] = reviewers()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description="")
    def picture(self, case: Any) -> SafeString | str:
        if not case.cover:
            return ""
        return format_html(
            '<img class="hp-thumb" src="{}" alt="" loading="lazy">', reverse("cases:thumbnail", args=[case.cover])
        )

    @admin.display(description="result", ordering="verdict")
    def said(self, case: Case) -> SafeString | str:
        if case.headline:
            return verdict_mark("uncertain", case.headline)
        return verdict_mark(case.verdict, case.get_verdict_display())

    @admin.display(description="P(malignant)", ordering=PROBABILITY)
    def p_malignant(self, case: Case) -> str:
        return chance(case, "probability")

    @admin.display(description="confidence")
    def sure(self, case: Case) -> str:
        return chance(case, "confidence")

    @admin.display(description="readings", ordering="reading_count")
    def readings(self, case: Any) -> int:
        return int(case.reading_count)

    @admin.display(description="page")
    def portal(self, case: Case) -> SafeString:
        return format_html('<a href="{}">Open the page of this case</a>', case.get_absolute_url())

    @admin.action(description="Re-analyse with the active model", permissions=["change"])
    def rerun(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        analyse_again(request, list(queryset))

    @admin.action(description="Assign a reviewer", permissions=["change"])
    def assign(self, request: HttpRequest, queryset: QuerySet[Case]) -> HttpResponse | None:
        chosen = request.POST.get("reviewer")
        if chosen is None:
            context = {
                **self.admin_site.each_context(request),
                "title": "Assign a reviewer",
                "queryset": queryset,
                "reviewers": reviewers(),
                "media": self.media,
            }
            return TemplateResponse(request, "admin/assign_reviewer.html", context)
        reviewer = next((one for one in reviewers() if str(one.pk) == chosen), None)
        if chosen and reviewer is None:
            self.message_user(request, "This person is no longer a reviewer; nothing was changed.", messages.ERROR)
            return None
        for case in queryset:
            services.assign(case, reviewer, person(request))
        self.message_user(request, f"Assigned to {reviewer}." if reviewer else "Assignment removed.", messages.SUCCESS)
        return None

    @admin.action(description="Mark for teaching", permissions=["change"])
    def mark_for_teaching(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        self._teach(request, queryset, True)

    @admin.action(description="Unmark for teaching", permissions=["change"])
    def unmark_for_teaching(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        self._teach(request, queryset, False)

    def _teach(self, request: HttpRequest, queryset: QuerySet[Case], is_teaching: bool) -> None:
        for case in queryset:
            Case.objects.filter(pk=case.pk).update(is_teaching=is_teaching, updated_at=timezone.now())
            self.log_change(request, case, f"Teaching case: {is_teaching}")

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Case]) -> HttpResponse:
        return export.response(Case.objects.filter(pk__in=queryset.values("pk")), person(request), "csv")

    @admin.action(description="Export as JSON", permissions=["view"])
    def export_json(self, request: HttpRequest, queryset: QuerySet[Case]) -> HttpResponse:
        return export.response(Case.objects.filter(pk__in=queryset.values("pk")), person(request), "json")

    def delete_model(self, request: HttpRequest, obj: Case) -> None:
        services.remove_case(obj, person(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        for case in queryset:
            services.remove_case(case, person(request))
