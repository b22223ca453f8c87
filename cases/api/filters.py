"""What lists can be narrowed by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django_filters.fields import IsoDateTimeField

from cases.models import Case, Magnification, Slide
from cases.services.search import PROBABILITY, mentions
from inference.models import Analysis, State, Verdict


class StrictFilterSet(django_filters.FilterSet):
    """A filter with an empty value, or one in a list of values, is refused where empty is no value, not ignored."""

    def is_valid(self) -> bool:
        good = bool(super().is_valid())
        for name, one in self.filters.items():
            given = self.data.get(name)
            values = given.split(",") if given and isinstance(one, django_filters.BaseCSVFilter) else [given]
            if "" in values and not isinstance(one, django_filters.CharFilter):
                self.form.add_error(name, ValidationError("This may not be empty.", "required"))
                good = False
        return good


#: Moments at the ends of time have no place in UTC, and no case was opened before or is after these.
FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class MomentField(IsoDateTimeField):
    def to_python(self, value: Any) -> Any:
        moment = super().to_python(value)
        return moment if moment is None else min(max(moment, FIRST), LAST)


class MomentFilter(django_filters.IsoDateTimeFilter):
    field_class = MomentField


class CaseOrdering(django_filters.OrderingFilter):
    def get_ordering_value(self, param: str) -> Any:
        if param.lstrip("-") != "probability":
            return super().get_ordering_value(param)
        return PROBABILITY.desc(nulls_last=True) if param[0] == "-" else PROBABILITY.asc(nulls_last=True)


class CaseFilter(StrictFilterSet):
    q = django_filters.CharFilter(
        method="search", max_length=100, label="Words in title, patient, file names or notes of your own."
    )
    state = django_filters.ChoiceFilter(
        choices=[(name, name) for name in ("empty", "running", "failed", "done")], method="in_state"
    )
    verdict = django_filters.ChoiceFilter(choices=Verdict.choices)
    magnification = django_filters.ChoiceFilter(choices=Magnification.choices)
    patient = django_filters.CharFilter(label="Patient pseudonym, exactly.")
    tag = django_filters.CharFilter(method="has_tag", label="One tag, whole.")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")
    ordering = CaseOrdering(
        fields=[("created_at", "created_at"), ("updated_at", "updated_at"), ("title", "title"),
                ("probability", "probability")],
        label="Comma-separated; a minus reverses.",
    )  # fmt: skip

    class Meta:
        model = Case
        fields: list[str] = []

    def search(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        for word in value.split():
            # Not a join for each word: databases allow only so many.
            named = Slide.objects.filter(original_name__icontains=word).values("case")
            cases = cases.filter(mentions(word, self.request.user) | Q(pk__in=named))
        return cases

    def has_tag(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        # As they are kept, and as an earlier version kept them.
        tagged = Case.objects.filter(tags__name__in={value, value.lower()})
        return cases.filter(pk__in=tagged.values("pk"))

    def in_state(self, cases: QuerySet[Case], name: str, value: str) -> QuerySet[Case]:
        """As :attr:`cases.models.Case.state` says it, in SQL."""
        if value == "empty":
            return cases.filter(slide_count=0)
        cases = cases.filter(slide_count__gt=0)
        if value == "running":
            return cases.filter(open_count__gt=0)
        cases = cases.filter(open_count=0)
        return cases.filter(failed_count__gt=0) if value == "failed" else cases.filter(failed_count=0)


class AnalysisFilter(StrictFilterSet):
    state = django_filters.ChoiceFilter(choices=State.choices)
    verdict = django_filters.ChoiceFilter(choices=Verdict.choices)
    case = django_filters.UUIDFilter(field_name="slide__case")
    slide = django_filters.UUIDFilter()
    model_version = django_filters.UUIDFilter()
    is_current = django_filters.ChoiceFilter(
        choices=[("true", "true"), ("false", "false")], method="current", label="false: runs that a later one replaced."
    )

    class Meta:
        model = Analysis
        fields: list[str] = []

    def current(self, analyses: QuerySet[Analysis], name: str, value: str) -> QuerySet[Analysis]:
        return analyses.filter(is_current=value == "true")
