"""Cases for review by staff: everything to be seen, results never to be changed."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import admin, messages
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.admin import UserAdmin
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from inference.admin import ReadOnlyAdmin
from inference.models import Analysis
from inference.registry import NoModel

from . import datarights, export, services
from .accounts import reviewers
from .filters import STATES
from .models import Case, Event, Report, Review, Slide, Tag, User
from .templatetags.portal import icon, percent

admin.site.site_header = "histopath administration"
admin.site.site_title = "histopath"
admin.site.index_title = "Review and operation"


def verdict_mark(verdict: str, label: str) -> SafeString | str:
    """A verdict as shape and word."""
    return format_html('<span class="hp-verdict hp-{}">{} {}</span>', verdict, icon(verdict), label) if verdict else "–"


class Erasing(admin.ModelAdmin):
    """Who may delete one of these deletes what belongs to it, whatever else they may do with that; and the page that
    asks counts it, but does not show it: there may be hidden readings in it."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        _, counts, _, _ = super().get_deleted_objects(objs, request)
        return [str(one) for one in objs], counts, set(), []


def _log_deletions(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
    """One by one: several at once Django writes past the signal by which the trail hears of them."""
    for one in queryset:
        LogEntry.objects.log_actions(request.user.pk, [one], DELETION)  # type: ignore[arg-type, list-item]


admin.ModelAdmin.log_deletions = _log_deletions  # type: ignore[method-assign, assignment]


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SlideInline(ReadOnlyInline):
    model = Slide
    readonly_fields = ["picture", "patch_map", "original_name", "state", "verdict", "probability", "confidence"]
    fields = tuple(readonly_fields)
    verbose_name_plural = "slides with maps"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Slide]:
        return super().get_queryset(request).with_analysis()  # type: ignore[attr-defined, no-any-return]

    @admin.display(description="image")
    def picture(self, slide: Slide) -> SafeString:
        return format_html(
            '<a href="{}"><img class="hp-thumb" src="{}" alt="{}" loading="lazy"></a>',
            slide.get_absolute_url(), reverse("cases:thumbnail", args=[slide.pk]), slide.original_name,
        )  # fmt: skip

    @admin.display(description="patch map")
    def patch_map(self, slide: Slide) -> SafeString | str:
        if not slide.analysis or not slide.analysis.verdict:
            return "–"
        address = reverse("cases:map", args=[slide.pk])
        return format_html('<img class="hp-thumb" src="{}" alt="Patch map" loading="lazy">', address)

    @admin.display
    def state(self, slide: Slide) -> str:
        return slide.analysis.get_state_display() if slide.analysis else "–"

    @admin.display
    def verdict(self, slide: Slide) -> SafeString | str:
        found = slide.analysis
        return verdict_mark(found.verdict, found.get_verdict_display()) if found else "–"

    @admin.display(description="P(malignant)")
    def probability(self, slide: Slide) -> str:
        return percent(slide.analysis.probability) if slide.analysis else "–"

    @admin.display
    def confidence(self, slide: Slide) -> str:
        return percent(slide.analysis.confidence) if slide.analysis else "–"


class ReviewInline(ReadOnlyInline):
    model = Review
    readonly_fields = ["reading", "subtype", "comment", "author", "created_at", "verdict", "probability"]
    fields = tuple(readonly_fields)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        reviews = super().get_queryset(request).select_related("author", "case")
        # A blinded reading stays so in the administration too.
        return reviews.exclude(~Q(author=request.user), case__in=Case.objects.still_blind().values("pk"))


class EventInline(ReadOnlyInline):
    model = Event
    readonly_fields = ["at", "kind", "actor", "detail"]
    fields = tuple(readonly_fields)
    verbose_name_plural = "timeline"


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("running", "In progress"), ("done", "Finished"), ("failed", "With failures"), ("empty", "Empty")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Case]) -> QuerySet[Case]:
        return queryset.filter(STATES[self.value()]) if self.value() in STATES else queryset  # type: ignore[index]


class ReviewedFilter(admin.SimpleListFilter):
    title = "review"
    parameter_name = "reviewed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "Not reviewed"), ("yes", "Reviewed"), ("mine", "Reviewed by me")]

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
        ("Review", {"fields": [("assigned_to", "is_blinded", "is_teaching")]}),
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
        if found and request.method == "POST":
            # Read anew within the transaction of the form's view, which keeps it from others until it is saved.
            found = Case.objects.for_change().filter(pk=found.pk).first()
        return found

    def save_model(self, request: HttpRequest, obj: Case, form: Any, change: bool) -> None:
        before = Case.objects.get(pk=obj.pk)
        super().save_model(request, obj, form, change)
        services.note_reading(obj, before, request.user)  # type: ignore[arg-type]

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

    @admin.display(description="verdict", ordering="verdict")
    def said(self, case: Case) -> SafeString | str:
        return verdict_mark(case.verdict, case.get_verdict_display())

    @admin.display(description="P(malignant)", ordering="probability")
    def p_malignant(self, case: Case) -> str:
        return percent(case.probability)

    @admin.display(description="confidence")
    def sure(self, case: Case) -> str:
        return percent(case.confidence)

    @admin.display(description="readings", ordering="reading_count")
    def readings(self, case: Any) -> int:
        return int(case.reading_count)

    @admin.display(description="in the portal")
    def portal(self, case: Case) -> SafeString:
        return format_html('<a href="{}">Open the case’s page</a>', case.get_absolute_url())

    @admin.action(description="Analyse again with the active model", permissions=["change"])
    def rerun(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        try:
            for case in queryset:
                services.request_again(case, list(case.slides.all()), request.user)  # type: ignore[arg-type]
        except NoModel as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.message_user(request, "Queued again.", messages.SUCCESS)

    @admin.action(description="Assign a reviewer", permissions=["change"])
    def assign(self, request: HttpRequest, queryset: QuerySet[Case]) -> HttpResponse | None:
        chosen = request.POST.get("reviewer")
        if chosen is None:
            context = {
                **self.admin_site.each_context(request),
                "title": "Assign a reviewer",
                "cases": queryset,
                "reviewers": reviewers(),
                "media": self.media,
            }
            return render(request, "admin/assign_reviewer.html", context)
        reviewer = reviewers().filter(pk=chosen if chosen.isdecimal() else None).first()
        for case in queryset:
            services.assign(case, reviewer, request.user)  # type: ignore[arg-type]
        self.message_user(request, f"Assigned to {reviewer or 'nobody'}.", messages.SUCCESS)
        return None

    @admin.action(description="Mark for teaching", permissions=["change"])
    def mark_for_teaching(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        self._teach(request, queryset, True)

    @admin.action(description="Take the teaching mark off", permissions=["change"])
    def unmark_for_teaching(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        self._teach(request, queryset, False)

    def _teach(self, request: HttpRequest, queryset: QuerySet[Case], is_teaching: bool) -> None:
        for case in queryset:
            Case.objects.filter(pk=case.pk).update(is_teaching=is_teaching, updated_at=timezone.now())
            self.log_change(request, case, f"Teaching case: {is_teaching}")

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Case]) -> HttpResponse:
        return export.response(Case.objects.filter(pk__in=queryset.values("pk")), request.user, "csv")  # type: ignore[arg-type]

    @admin.action(description="Export as JSON", permissions=["view"])
    def export_json(self, request: HttpRequest, queryset: QuerySet[Case]) -> HttpResponse:
        return export.response(Case.objects.filter(pk__in=queryset.values("pk")), request.user, "json")  # type: ignore[arg-type]

    def delete_model(self, request: HttpRequest, obj: Case) -> None:
        services.remove_case(obj, request.user)  # type: ignore[arg-type]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Case]) -> None:
        for case in queryset:
            services.remove_case(case, request.user)  # type: ignore[arg-type]


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
        return super().get_queryset(request).with_analysis()  # type: ignore[attr-defined, no-any-return]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description="")
    def picture(self, slide: Slide) -> SafeString:
        return format_html(
            '<a href="{}"><img class="hp-thumb" src="{}" alt="{}" loading="lazy"></a>',
            slide.get_absolute_url(), reverse("cases:thumbnail", args=[slide.pk]), slide.original_name,
        )  # fmt: skip

    @admin.display(description="verdict")
    def said(self, slide: Slide) -> SafeString | str:
        found = slide.analysis
        return verdict_mark(found.verdict, found.get_verdict_display()) if found else "–"

    @admin.display(description="P(malignant)")
    def p_malignant(self, slide: Slide) -> str:
        return percent(slide.analysis.probability) if slide.analysis else "–"

    @admin.display(description="pixels")
    def size_text(self, slide: Slide) -> str:
        return f"{slide.width} × {slide.height}"

    def delete_model(self, request: HttpRequest, obj: Slide) -> None:
        services.remove_slide(obj, request.user)  # type: ignore[arg-type]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Slide]) -> None:
        for slide in queryset.select_related("case"):
            services.remove_slide(slide, request.user)  # type: ignore[arg-type]


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


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    list_display = ["name", "owner"]
    search_fields = ["name"]


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

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "email" in form.changed_data:
            # The old ones would still open the account: by a link for a new password, and at the sign-in.
            EmailAddress.objects.filter(user=obj).exclude(email__iexact=obj.email).delete()
            if obj.email:
                EmailAddress.objects.get_or_create(user=obj, email=obj.email.lower(), defaults={"primary": True})

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        # With cases, files and what the trail says in words, as when they do it themselves.
        datarights.erase(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            if user != request.user:
                datarights.erase(user)

    @admin.display(description="name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display
    def roles(self, user: User) -> str:
        return format_html_join(", ", "{}", ((group.name,) for group in user.groups.all())) or (
            "superuser" if user.is_superuser else "–"
        )
