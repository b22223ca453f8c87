"""What of the history is shown, in which order; all of it stands in the address."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from cases.models import Case, Reading, Review, Slide, Tag, User
from inference.models import Analysis, ModelVersion, Verdict, in_domain

#: Tags in the drop-down.
LISTED = 200
PROBABILITY = in_domain("probability")
STATES = {
    "running": Q(open_count__gt=0),
    "done": Q(slide_count__gt=0, open_count=0, failed_count=0),
    "failed": Q(open_count=0, failed_count__gt=0),
    "empty": Q(slide_count=0),
}
SORTS = [
    ("-created", "Newest first"),
    ("created", "Oldest first"),
    ("-updated", "Last changed"),
    ("-probability", "Most suspicious"),
    ("probability", "Least suspicious"),
    ("title", "Title"),
]
ORDER: dict[str, list[Any]] = {
    "-created": ["-created_at"],
    "created": ["created_at"],
    "-updated": ["-updated_at"],
    "-probability": [PROBABILITY.desc(nulls_last=True), "-created_at"],
    "probability": [PROBABILITY.asc(nulls_last=True), "-created_at"],
    "title": ["title", "-created_at"],
}


class HistoryFilter(forms.Form):
    """Search, filters and order. What can't be understood in an address is left out, not an error."""

    q = forms.CharField(label="Search", max_length=100, required=False)
    verdict = forms.ChoiceField(choices=[("", "Any verdict"), *Verdict.choices], required=False)
    state = forms.ChoiceField(
        choices=[
            ("", "Any state"),
            ("running", "In progress"),
            ("done", "Finished"),
            ("failed", "With failures"),
            ("empty", "Without images"),
        ],
        required=False,
    )
    reading = forms.ChoiceField(
        label="My reading",
        choices=[
            ("", "Any"),
            ("none", "Not read yet"),
            ("signed", "Signed"),
            ("disagrees", "Disagrees with the model"),
        ],
        required=False,
    )
    since = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    model = forms.ModelChoiceField(ModelVersion.objects.none(), required=False, empty_label="Any model")
    tag = forms.ChoiceField(required=False)
    whose = forms.ChoiceField(
        choices=[("", "Everybody’s"), ("mine", "Mine"), ("assigned", "Assigned to me")], required=False
    )
    sort = forms.ChoiceField(choices=SORTS, required=False)

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data, auto_id="filter_%s")
        self.user = user
        models: forms.ModelChoiceField[ModelVersion] = self.fields["model"]  # type: ignore[assignment]
        models.queryset = ModelVersion.objects.all()
        tags = Tag.objects.all() if user.is_reviewer else Tag.objects.filter(owner=user)
        names = list(tags.values_list("name", flat=True).distinct()[:LISTED])
        # One that is asked for by its own link may be beyond those.
        asked = str((data or {}).get("tag") or "")
        if asked and asked not in names and "\0" not in asked and tags.filter(name=asked).exists():
            names.append(asked)
        self.fields["tag"].choices = [("", "Any tag"), *((n, n) for n in names)]  # type: ignore[attr-defined]
        if not user.is_reviewer:
            del self.fields["whose"]

    @property
    def chosen(self) -> dict[str, Any]:
        """The filters that are in force."""
        if not hasattr(self, "cleaned_data"):
            self.full_clean()
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}

    @property
    def extra_fields(self) -> list[forms.BoundField]:
        """Those behind “more filters”."""
        return [field for field in self if field.name not in ("q", "verdict", "sort")]

    @property
    def count(self) -> int:
        """How many filters behind “more filters” are in force."""
        return len(set(self.chosen) - {"q", "verdict", "sort"})

    @property
    def is_narrow(self) -> bool:
        return bool(set(self.chosen) - {"sort"})

    def cases(self) -> QuerySet[Case]:
        """The cases that this person may see and asks for, in order."""
        chosen = self.chosen
        cases: QuerySet[Case] = Case.objects.visible_to(self.user)
        if words := chosen.get("q"):
            for word in words.split():
                cases = cases.filter(mentions(word, self.user))
        if verdict := chosen.get("verdict"):
            cases = cases.filter(verdict=verdict)
        if state := chosen.get("state"):
            cases = cases.filter(STATES[state])
        if reading := chosen.get("reading"):
            cases = self._by_reading(cases, reading)
        if since := chosen.get("since"):
            cases = cases.filter(created_at__gte=_day(since, time.min))
        if until := chosen.get("until"):
            cases = cases.filter(created_at__lte=_day(until, time.max))
        if model := chosen.get("model"):
            used = Slide.objects.filter(analyses__model_version=model, analyses__is_current=True)
            cases = cases.filter(pk__in=used.values("case"))
        if tag := chosen.get("tag"):
            cases = cases.filter(pk__in=Case.objects.filter(tags__name=tag).values("pk"))
        if whose := chosen.get("whose"):
            whom = Q(owner=self.user) if whose == "mine" else Q(assigned_to=self.user)
            cases = cases.filter(whom)
        return cases.order_by(*ORDER[chosen.get("sort", "-created")])

    def _by_reading(self, cases: QuerySet[Case], reading: str) -> QuerySet[Case]:
        mine = Review.objects.filter(author=self.user)
        if reading == "none":
            return cases.exclude(pk__in=mine.values("case"))
        if reading == "disagrees":
            latest = mine.values("case").annotate(last=Max("created_at"))
            mine = mine.filter(created_at__in=latest.values("last"))
            mine = mine.filter(
                Q(reading=Reading.BENIGN, verdict=Verdict.MALIGNANT)
                | Q(reading=Reading.MALIGNANT, verdict=Verdict.BENIGN)
            )
        return cases.filter(pk__in=mine.values("case"))


def mentions(word: str, reader: Any) -> Q:
    """Cases with the word in title, pseudonym or notes. Of others' notes, which no list shows, a search would tell them
    word by word, so only in one's own."""
    in_notes = Q(notes__icontains=word, owner=reader)
    return Q(title__icontains=word) | Q(patient__icontains=word) | in_notes


def for_list(cases: QuerySet[Case], user: User) -> QuerySet[Case]:
    """With what a row of the history shows: owner, tags, first slide (``cover``), own last reading, and how many
    images read malignant."""
    cover = Slide.objects.filter(case=OuterRef("pk")).order_by("added_at", "original_name").values("pk")[:1]
    mine = Review.objects.filter(case=OuterRef("pk"), author=user).order_by("-created_at").values("reading")[:1]
    malignant = (
        Analysis.objects.filter(slide__case=OuterRef("pk"), is_current=True, verdict=Verdict.MALIGNANT)
        .order_by()
        .values("slide__case")
        .annotate(count=Count("pk"))
        .values("count")
    )
    return (
        cases.select_related("owner")
        .prefetch_related("tags")
        .annotate(cover=Subquery(cover), my_reading=Subquery(mine), malignant_images=Subquery(malignant))
    )


def _day(day: Any, at: time) -> datetime:
    """A moment of a day in the reader's time zone; days at the ends of time have none in UTC, and are moved inside."""
    day = min(max(day, date.min + timedelta(days=2)), date.max - timedelta(days=2))
    return timezone.make_aware(datetime.combine(day, at))
