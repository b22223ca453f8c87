"""Sentences about results, shared by pages, reports and the API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cases.models import Case
from inference.models import ModelVersion, Verdict

DISCLAIMER = (
    "For research and education only. This is not a medical device, and nothing here is a diagnosis. "
    "The model sees only the pixels of the images given; it can be wrong with high confidence."
)


#: Shown for a case that averages probabilities which are not comparable.
MIXED = (
    "The images were analysed with different model versions or patch overlaps. "
    "Re-analyse all of them for a consistent case result."
)
#: Why an image was not queued with the others of its case.
NO_ROOM = "Not queued: the queue quota is used up. The earlier result is kept; request the analysis again later."


def partly(taken: int, asked: int) -> str:
    """Message if the quota allowed only some of the images."""
    return (
        f"{taken} of {asked} images were queued; your queue quota is used up. "
        "When they are done, re-analyse again to queue the others."
    )


def not_printed(names: Sequence[str]) -> str:
    """What to say of images whose files are missing, so that a report does not show them."""
    count = f"{len(names)} image{'s' if len(names) > 1 else ''}"
    return f"The report does not show {count} because the file is missing or can’t be read: {', '.join(names[:5])}" + (
        " and others." if len(names) > 5 else "."
    )


def thresholds(model: ModelVersion) -> str:
    """The model's thresholds: which probability gives which result."""
    low, high = _percent(model.cut_low), _percent(model.cut_high)
    if model.cut_low == model.cut_high:
        return f"Benign < {low}; malignant > {high}."
    return f"Benign < {low}; indeterminate {low} to {high}; malignant > {high}."


def statement(verdict: str, probability: float | None, model: ModelVersion | None, subject: str = "slide") -> str:
    """What a result is worth, in one or two sentences. ``probability`` is of malignancy, 0 to 1; ``subject`` is
    "slide" or "case"."""
    if not verdict or probability is None or model is None:
        return ""
    if verdict == Verdict.OUT_OF_DOMAIN:
        return (
            "This image does not look like H&E-stained breast tissue, so no probability is given. "
            "This is the expected result for any other kind of image."
            if subject == "slide"
            else "None of the images looks like H&E-stained breast tissue, so no probability is given."
        )
    if verdict == Verdict.INDETERMINATE:
        return (
            "The probability lies between the thresholds: the model does not decide. "
            "A person’s reading, another field or another magnification is needed."
        )
    uncalibrated = "" if model.calibrated else "The score is the network’s uncalibrated output, not a probability."
    return " ".join(filter(None, (uncalibrated, caution(verdict, model, subject))))


def case_statement(case: Case, model: ModelVersion | None) -> str:
    """What the case result is worth. If a reason for review replaces its heading, only the average is stated."""
    if case.headline and case.probability is not None:
        return f"The average of the images is {case.verdict}. An average can hide a small lesion."
    return statement(case.verdict, case.probability, model, "case")


def caution(verdict: str, model: ModelVersion, subject: str = "slide") -> str:
    """How often such a result was wrong on held-out patients. It was measured on single images, which is said of a
    case."""
    of_images = " for single images" if subject == "case" else ""
    wrong = _wrong_shares(model.sha256).get(verdict)
    if wrong is None:
        return f"How often {verdict} results{of_images} are wrong was not measured for this model version."
    often = frequency(wrong)
    return f"{often[0].upper()}{often[1:]} {verdict} results{of_images} were wrong on held-out patients."


def frequency(share: float) -> str:
    """A share, 0 to 1, as a natural frequency: "about 3 in 10". Never "none" or "all"."""
    if share < 0.01:
        return "fewer than 1 in 100"
    if share > 0.99:
        return "more than 99 in 100"
    # Tenths where they are close enough; otherwise an error rate of 14 % would become 1 in 10.
    tenths, hundredths = round(10 * share), round(100 * share)
    return f"about {tenths} in 10" if tenths and abs(tenths / 10 - share) <= 0.01 else f"about {hundredths} in 100"


@lru_cache(maxsize=64)
def _wrong_shares(sha256: str) -> dict[str, float]:
    """Share of wrong results on held-out patients, 0 to 1, by result. Cached, because metadata never changes for a
    checksum."""
    metadata = ModelVersion.objects.filter(sha256=sha256).values_list("metadata", flat=True).first() or {}
    metrics = metadata.get("metrics") or {}
    found = {verdict: metrics.get(f"{verdict}_wrong") for verdict in (Verdict.BENIGN, Verdict.MALIGNANT)}
    return {str(verdict): float(share) for verdict, share in found.items() if isinstance(share, int | float)}


def _percent(share: float, digits: int = 1) -> str:
    text = f"{100 * share:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\N{NO-BREAK SPACE}%"
