"""Search, filters and order of cases: one filter set for the history page and for the API.

:class:`CaseSearch` holds what both have in common. The page ignores values it doesn't understand, so that an old
link still opens; the API (:mod:`cases.api.filters`) refuses them.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import django_filters
from django import forms
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from cases.models import Case, CaseState, Magnification, Reading, Review, Slide, Tag, User
from cases.models.folding import composed, folded
from inference.models import ModelVersion, Verdict, in_domain

#: Most tags offered by the page's drop-down.
TAG_CHOICES_MAX = 200
PROBABILITY = in_domain("probability")
#: Fields shown above "more filters".
MAIN_FIELDS = {"q", "verdict", "sort"}


class CaseOrdering(django_filters.OrderingFilter):
    """Sorts cases without a probability last, and equal ones newest first."""

    def get_ordering_value(self, param: str) -> Any:
        if param.lstrip("-") != "probability":
            return super().get_ordering_value(param)
        return PROBABILITY.desc(nulls_last=True) if param[0] == "-" else PROBABILITY.asc(nulls_last=True)

    def filter(self, qs: QuerySet[Case], value: list[str] | None) -> QuerySet[Case]:
        order = [self.get_ordering_value(param) for param in value or [] if param]
        return qs.order_by(*order, "-created_at") if order else qs


class CaseSearch(django_filters.FilterSet):
    """Filters the cases visible to ``request.user``."""

    q = django_filters.CharFilter(
        method="search",
        max_length=100,
        label="Words in the title, patient pseudonym, tags, file names or your own notes; all must match.",
    )
    verdict = django_filters.ChoiceFilter(label="Result", choices=Verdict.choices, empty_label="Any result")
    state = django_filters.ChoiceFilter(
        label="State", choices=CaseState.choices, empty_label="Any state", method="in_state"
    )
    reading = django_filters.ChoiceFilter(
        label="My reading",
        choices=[("none", "No reading yet"), ("signed", "Signed"), ("disagrees", "Disagrees with the model")],
        empty_label="Any",
        help_text="Based on your latest reading.",
        method="by_reading",
    )
    magnification = django_filters.ChoiceFilter(
        label="Magnification", choices=Magnification.choices, empty_label="Any magnification"
    )
    whose = django_filters.ChoiceFilter(
        label="Owner",
        choices=[("mine", "Mine"), ("assigned", "Assigned to me")],
        empty_label="Anyone",
        help_text="Your own cases, or those assigned to you; for reviewers.",
        method="by_person",
    )

    class Meta:
        model = Case
        fields: list[str] = []

    def search(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        for word in (folded(word) for word in value.split()):
            # Subqueries, because databases limit the number of joins. Only the user's own notes are searched: no list
            # shows other people's, and a search would reveal them word by word.
            cases = cases.filter(
                Q(title__folded__contains=word)
                | Q(patient__folded__contains=word)
                | Q(notes__folded__contains=word, owner=self.request.user)
                | Q(pk__in=Slide.objects.filter(original_name__folded__contains=word).values("case"))
                | Q(pk__in=Case.objects.filter(tags__name__folded__contains=word).values("pk"))
            )
        return cases

    def in_state(self, cases: Any, name: str, value: str) -> QuerySet[Case]:
        return cases.in_state(value)

    def has_tag(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        # Tags are stored in lower case; earlier versions kept the case.
        names = {value, value.lower(), composed(value).lower()}
        return cases.filter(pk__in=Case.objects.filter(tags__name__in=names).values("pk"))

    def by_model(self, cases: QuerySet[Case], name: str, value: UUID) -> QuerySet[Case]:
        analysed = Slide.objects.filter(analyses__model_version=value, analyses__is_current=True)
        return cases.filter(pk__in=analysed.values("case"))

    def by_person(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        user = self.request.user
        return cases.filter(owner=user) if value == "mine" else cases.filter(assigned_to=user)

    def by_reading(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        mine = Review.objects.filter(author=self.request.user)
        if value == "none":
            return cases.exclude(pk__in=mine.values("case"))
        if value == "disagrees":
            latest = mine.values("case").annotate(last=Max("created_at"))
            mine = mine.filter(created_at__in=latest.values("last"))
            mine = mine.filter(
                Q(reading=Reading.BENIGN, verdict=Verdict.MALIGNANT)
                | Q(reading=Reading.MALIGNANT, verdict=Verdict.BENIGN)
            )
        return cases.filter(pk__in=mine.values("case"))


class HistoryForm(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = "filter_%s"


class HistoryFilter(CaseSearch):
    """The history page's filters, all kept in the address. Templates read its form's fields as ``filter.verdict``."""

    since = django_filters.DateFilter(
        label="From", method="created_since", widget=forms.DateInput(attrs={"type": "date"})
    )
    until = django_filters.DateFilter(
        label="To", method="created_until", widget=forms.DateInput(attrs={"type": "date"})
    )
    model = django_filters.ModelChoiceFilter(
        label="Model", queryset=ModelVersion.objects.all(), empty_label="Any model", method="by_model"
    )
    tag = django_filters.ChoiceFilter(label="Tag", empty_label="Any tag", choices=[], method="has_tag")
    sort = CaseOrdering(
        fields=[("created_at", "created"), ("updated_at", "updated"), ("probability", "probability"),
                ("title", "title")],
        choices=[
            ("-created", "Newest first"),
            ("created", "Oldest first"),
            ("-updated", "Last changed"),
            ("-probability", "Most suspicious"),
            ("probability", "Least suspicious"),
            ("title", "Title"),
        ],
        empty_label=None,
    )  # fmt: skip

    class Meta(CaseSearch.Meta):
        form = HistoryForm

    def __init__(self, user: User, data: Any, request: Any) -> None:
        super().__init__(data, Case.objects.visible_to(user), request=request)
        self.filters["tag"].extra["choices"] = [(name, name) for name in self._tag_names(user)]
        if not user.is_reviewer:
            del self.filters["whose"]

    def _tag_names(self, user: User) -> list[str]:
        tags = Tag.objects.all() if user.is_reviewer else Tag.objects.filter(owner=user)
        names = list(tags.values_list("name", flat=True).distinct()[:TAG_CHOICES_MAX])
        # A link may name a tag beyond those.
        given = self.data.get("tag") or ""
        if given and given not in names and "\0" not in given and tags.filter(name=given).exists():
            names.append(given)
        return names

    def __getitem__(self, name: str) -> forms.BoundField:
        return self.form[name]

    @property
    def chosen(self) -> dict[str, Any]:
        """The valid filters that have a value."""
        self.form.full_clean()
        return {name: value for name, value in self.form.cleaned_data.items() if value not in (None, "", [])}

    @property
    def extra_fields(self) -> list[forms.BoundField]:
        """The fields behind "more filters"."""
        return [field for field in self.form if field.name not in MAIN_FIELDS]

    @property
    def count(self) -> int:
        """How many filters behind "more filters" have a value."""
        return len(set(self.chosen) - MAIN_FIELDS)

    @property
    def is_narrow(self) -> bool:
        return bool(set(self.chosen) - {"sort"})

    def created_since(self, cases: QuerySet[Case], name: str, value: date) -> QuerySet[Case]:
        return cases.filter(created_at__gte=_start(value))

    def created_until(self, cases: QuerySet[Case], name: str, value: date) -> QuerySet[Case]:
        # Up to the next day's start: where clocks go back, an hour comes twice.
        return cases.filter(created_at__lt=_start(value + timedelta(days=1) if value < date.max else value))


def for_list(cases: QuerySet[Case], user: User) -> QuerySet[Case]:
    """Cases with what a row of the history shows: owner, tags, first slide (``cover``) and the user's latest reading
    (``my_reading``)."""
    cover = Slide.objects.filter(case=OuterRef("pk")).order_by("added_at", "original_name").values("pk")[:1]
    mine = Review.objects.filter(case=OuterRef("pk"), author=user).order_by("-created_at").values("reading")[:1]
    return (
        cases.select_related("owner")
        .prefetch_related("tags")
        .annotate(cover=Subquery(cover), my_reading=Subquery(mine))
    )


def _start(day: date) -> datetime:
    """When a day begins in the reader's time zone. The first and last days of the calendar have no time in UTC and are
    moved inside."""
    day = min(max(day, date.min + timedelta(days=2)), date.max - timedelta(days=2))
    return timezone.make_aware(datetime.combine(day, time.min))
