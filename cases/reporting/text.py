"""What a verdict means, in plain sentences; the same on pages and in reports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cases.models import Case
from inference.models import ModelVersion, Verdict

DISCLAIMER = (
    "For research and education only. This is not a medical device, and nothing here is a diagnosis. "
    "The model sees only the pixels of the images given; it can be wrong with high confidence."
)


#: The mean of such a case is of figures that are not alike.
MIXED = (
    "The images were not analysed alike, but by different model versions or with different overlaps. "
    "Analyse all again for one answer."
)
#: Why an image was not queued again with the others of its case.
NO_ROOM = "Not queued again, as so many wait already: it is as it was. Analyse again once those are done."


def partly(taken: int, asked: int) -> str:
    """What to say where only some images could be queued again."""
    return (
        f"{taken} of {asked} images are queued, as many as one person may have at a time. "
        "Analyse again once they are done, and the others are taken."
    )


def not_printed(names: Sequence[str]) -> str:
    """What to say of images whose files are missing, so that a report does not show them."""
    count = f"{len(names)} image{'s' if len(names) > 1 else ''}"
    return f"The report does not show {count} because the file is missing or can’t be read: {', '.join(names[:5])}" + (
        " and others." if len(names) > 5 else "."
    )


def cut_points(model: ModelVersion) -> str:
    """How a probability becomes a verdict, in one sentence."""
    if model.cut_low == model.cut_high:
        cut = _percent(model.cut_low)
        return f"Below {cut} reads benign, above {cut} malignant."
    return (
        f"Below {_percent(model.cut_low)} reads benign, above {_percent(model.cut_high)} malignant, "
        "between them indeterminate."
    )


def statement(verdict: str, probability: float | None, model: ModelVersion | None, subject: str = "slide") -> str:
    """The verdict in words. ``probability`` is of malignancy, 0 to 1; ``subject`` is slide or case."""
    if not verdict or probability is None or model is None:
        return ""
    if verdict == Verdict.OUT_OF_DOMAIN:
        return (
            "This does not look like H&E-stained breast tissue, so the model gives no probability. "
            "That is the right answer for any other picture."
            if subject == "slide"
            else "None of the images looks like H&E-stained breast tissue, so there is no aggregated diagnosis."
        )
    if verdict == Verdict.INDETERMINATE:
        start = (
            f"The model does not decide: the probability of malignancy, {_percent(probability)}, lies between its "
            "cut points."
        )
        return f"{start} A human reading, another field or another magnification is needed."
    chance = (
        f"Of images that score like this, {_about(probability)} are malignant in the calibration data."
        if model.calibrated
        else "The figure is the network’s own score; it is not calibrated and must not be read as a chance."
    )
    if subject == "case" and model.calibrated:
        chance = f"The mean probability of malignancy over its images is {_mean(probability)}."
    return " ".join(filter(None, (f"The model reads this {subject} as {verdict}. {chance}", caution(verdict, model))))


def case_statement(case: Case, model: ModelVersion | None) -> str:
    """The result of a case in words; where a reason for review heads it, only what the average says."""
    if case.headline and case.probability is not None:
        mean = _mean(case.probability)
        return f"On average the case is {case.verdict}: the mean probability of malignancy over its images is {mean}."
    return statement(case.verdict, case.probability, model, "case")


def caution(verdict: str, model: ModelVersion) -> str:
    """How often such a verdict was wrong on patients the model had not seen; empty where the model does not say."""
    wrong = _wrong_shares(model.sha256).get(verdict)
    if wrong is None:
        return ""
    return f"Of its {verdict} verdicts on images of patients it had not seen, {_percent(wrong, 0)} were wrong."


@lru_cache(maxsize=64)
def _wrong_shares(sha256: str) -> dict[str, float]:
    """Out-of-fold shares of wrong verdicts, from the checkpoint's metadata, which a checksum fixes for good."""
    metadata = ModelVersion.objects.filter(sha256=sha256).values_list("metadata", flat=True).first() or {}
    metrics = metadata.get("metrics") or {}
    found = {verdict: metrics.get(f"{verdict}_wrong") for verdict in (Verdict.BENIGN, Verdict.MALIGNANT)}
    return {str(verdict): float(share) for verdict, share in found.items() if isinstance(share, int | float)}


def _about(share: float) -> str:
    """In whole per cent, and never a certainty."""
    if share > 0.99:
        return f"more than {_percent(0.99)}"
    return f"fewer than {_percent(0.01)}" if share < 0.01 else f"about {_percent(share, 0)}"


def _mean(share: float) -> str:
    """As the figures beside it: to a tenth of a per cent, and never a certainty."""
    if share > 0.999:
        return f"more than {_percent(0.999)}"
    return f"less than {_percent(0.001)}" if share < 0.001 else _percent(share)


def _percent(share: float, digits: int = 1) -> str:
    text = f"{100 * share:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\N{NO-BREAK SPACE}%"
