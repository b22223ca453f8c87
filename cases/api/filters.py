"""Filters of the API's lists. Invalid values are refused, not ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters.fields import IsoDateTimeField

from cases.services.search import CaseOrdering, CaseSearch
from inference.models import Analysis, State, Verdict


class StrictFilterSet(django_filters.FilterSet):
    """Refuses an empty value, also within a list, except for text filters. django-filter would ignore it."""

    def is_valid(self) -> bool:
        valid = bool(super().is_valid())
        for name, one in self.filters.items():
            given = self.data.get(name)
            values = given.split(",") if given and isinstance(one, django_filters.BaseCSVFilter) else [given]
            if "" in values and not isinstance(one, django_filters.CharFilter):
                self.form.add_error(name, ValidationError("This value must not be empty.", "required"))
                valid = False
        return valid


#: Times at the ends of the calendar don't exist in UTC; every case was created between these two.
FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class BoundedDateTimeField(IsoDateTimeField):
    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        return found if found is None else min(max(found, FIRST), LAST)


class DateTimeFilter(django_filters.IsoDateTimeFilter):
    field_class = BoundedDateTimeField


class CaseFilter(StrictFilterSet, CaseSearch):
    patient = django_filters.CharFilter(label="Exact patient pseudonym.")
    tag = django_filters.CharFilter(method="has_tag", label="Exact tag.")
    model_version = django_filters.UUIDFilter(method="by_model", label="Model version of a current analysis.")
    created_after = DateTimeFilter(field_name="created_at", lookup_expr="gte", label="At or after this time.")
    created_before = DateTimeFilter(field_name="created_at", lookup_expr="lt", label="Before this time.")
    ordering = CaseOrdering(
        fields=[("created_at", "created_at"), ("updated_at", "updated_at"), ("title", "title"),
                ("probability", "probability")],
        label="Comma-separated; a minus sign reverses the order.",
    )  # fmt: skip


class AnalysisFilter(StrictFilterSet):
    state = django_filters.ChoiceFilter(choices=State.choices)
    verdict = django_filters.ChoiceFilter(choices=Verdict.choices)
    case = django_filters.UUIDFilter(field_name="slide__case")
    slide = django_filters.UUIDFilter()
    model_version = django_filters.UUIDFilter()
    is_current = django_filters.ChoiceFilter(
        choices=[("true", "true"), ("false", "false")],
        method="current",
        label="false: only analyses that a later one replaced.",
    )

    class Meta:
        model = Analysis
        fields: list[str] = []

    def current(self, analyses: QuerySet[Analysis], name: str, value: str) -> QuerySet[Analysis]:
        return analyses.filter(is_current=value == "true")
