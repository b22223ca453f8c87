"""Agreement between readings and model results."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from django.db.models import Q

from cases.models import Case, Reading, Review, User
from inference.models import ModelVersion, Verdict

#: Bin edges of the calibration table.
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: With fewer cases than this, a percentage means little, and the number of cases is shown instead.
FEW = 20
DECIDED = (Verdict.BENIGN, Verdict.MALIGNANT)


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two readers beyond chance, -1 to 1; None if there are no pairs or the expected agreement is 1.

    Cohen, *A coefficient of agreement for nominal scales*, Educ. Psychol. Meas. 20 (1960):
    (observed - expected) / (1 - expected), expected from both readers' own frequencies.
    """
    n = len(pairs)
    if n == 0:
        return None
    observed = sum(a == b for a, b in pairs) / n
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[label] * second[label] for label in first) / n**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


@dataclass
class Agreement:
    """Pairs of a reading and a model result, both definite; ``few`` if there are too few to interpret."""

    pairs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.pairs)

    @property
    def few(self) -> bool:
        return self.n < FEW

    @property
    def share(self) -> float | None:
        return sum(a == b for a, b in self.pairs) / self.n if self.n else None

    @property
    def kappa(self) -> float | None:
        return cohen_kappa(self.pairs)


@dataclass
class Bin:
    """Cases with a reading and a probability between two edges: their mean probability, and how many people read as
    malignant."""

    low: float
    high: float
    probabilities: list[float] = field(default_factory=list)
    malignant: int = 0

    @property
    def n(self) -> int:
        return len(self.probabilities)

    @property
    def mean(self) -> float | None:
        return sum(self.probabilities) / self.n if self.n else None

    @property
    def share(self) -> float | None:
        return self.malignant / self.n if self.n else None


@dataclass
class Statistics:
    """All figures of the Statistics page."""

    readings: int
    confusion: list[tuple[str, str, list[int]]]
    overall: Agreement
    trend: list[tuple[str, Agreement]]
    models: list[tuple[str, Agreement]]
    bins: list[Bin]


def latest_reviews(user: User) -> list[Review]:
    """Each reader's latest reading of each case that ``user`` may see, preferring readings signed blind, because later
    ones may be influenced by other people's. Other people's readings of cases that are still blind are left out."""
    names = ("case_id", "author_id", "reading", "verdict", "probability", "created_at", "model_version_id")
    reviews = (
        Review.objects.filter(case__in=Case.objects.visible_to(user))
        .exclude(~Q(author=user) & Q(case__in=Case.objects.still_blind().values("pk")))
        .order_by("was_blind", "created_at")
        .values_list(*names)
    )
    last = {(row[0], row[1]): row for row in reviews}
    found = (Review(**dict(zip(names, row, strict=True))) for row in last.values())
    # A reading signed while analyses were open has no result to compare with.
    return [review for review in found if review.verdict]


def compute(reviews: Iterable[Review]) -> Statistics:
    """Confusion table (readings by model results), agreement overall, by month and by model version, calibration."""
    reviews = sorted(reviews, key=lambda review: review.created_at)
    cells = Counter((review.reading, review.verdict) for review in reviews)
    overall = Agreement()
    months: dict[str, Agreement] = defaultdict(Agreement)
    versions: dict[uuid.UUID | None, Agreement] = defaultdict(Agreement)
    bins = [Bin(low, high) for low, high in pairwise(BINS)]
    for review in reviews:
        if review.reading == Reading.UNCERTAIN:
            continue
        if review.probability is not None and review.verdict != Verdict.OUT_OF_DOMAIN:
            found = bins[min(int(review.probability * len(bins)), len(bins) - 1)]
            found.probabilities.append(review.probability)
            found.malignant += review.reading == Reading.MALIGNANT
        if review.verdict not in DECIDED:
            continue
        pair = (review.reading, review.verdict)
        overall.pairs.append(pair)
        months[f"{review.created_at:%B %Y}"].pairs.append(pair)
        versions[review.model_version_id].pairs.append(pair)
    names: dict[uuid.UUID | None, str] = {
        model.pk: str(model) for model in ModelVersion.objects.filter(pk__in=[v for v in versions if v])
    }
    return Statistics(
        readings=len(reviews),
        confusion=[
            (value, label, [cells[value, verdict] for verdict in Verdict.values]) for value, label in Reading.choices
        ],
        overall=overall,
        trend=list(months.items())[-12:],
        models=[(names.get(key, "not recorded"), agreement) for key, agreement in versions.items()],
        bins=bins,
    )
