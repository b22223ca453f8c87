"""When the result of a case must not be read without looking at its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Reason:
    """Why a review is recommended: a stable ``code``, a ``headline`` of a few words, and a sentence."""

    code: str
    headline: str
    message: str

    def to_json(self) -> dict[str, str]:
        """``code`` and ``message``."""
        return {name: value for name, value in asdict(self).items() if name != "headline"}


def review_reasons(
    verdict: str, *, images: int, malignant: int = 0, indeterminate: int = 0, rejected: int = 0, failed: int = 0
) -> list[Reason]:
    """The reasons to review a case, the most important first; none where its result stands by itself.

    ``verdict`` is the case's; empty means that there is no result yet, which has no reasons. ``images`` counts those
    with a result; ``rejected`` of them are out of domain. ``failed`` counts images without a result.

    Codes: ``malignant_image`` (an image is malignant, the case is not), ``mostly_indeterminate`` (more than half of
    the images in domain), ``rejected_images`` (some images are out of domain, others are not), ``failed_images``.
    """
    if not verdict:
        return []
    reasons = []
    if malignant and verdict != "malignant":
        share = _share(malignant, images, "is malignant", "are malignant")
        reasons.append(Reason("malignant_image", share, f"{share}; the average of the case is not."))
    if 2 * indeterminate > images - rejected:
        share = _share(indeterminate, images, "is indeterminate", "are indeterminate")
        reasons.append(Reason("mostly_indeterminate", share, f"{share}."))
    if rejected and rejected < images:
        share = _share(rejected, images, "is not H&E breast tissue", "are not H&E breast tissue")
        reasons.append(Reason("rejected_images", share, f"{share} and left out."))
    if failed:
        share = _share(failed, images + failed, "could not be analysed", "could not be analysed")
        reasons.append(Reason("failed_images", share, f"{share}."))
    return reasons


def headline(verdict: str, reasons: Sequence[Reason]) -> str:
    """What a case is headed by in place of its verdict, or nothing where the verdict stands.

    A benign case never stands where a review is recommended, nor an indeterminate one with a malignant image.
    """
    hides = verdict == "benign" or (verdict == "indeterminate" and reasons and reasons[0].code == "malignant_image")
    return f"Review: {reasons[0].headline}" if reasons and hides else ""


def _share(part: int, whole: int, one: str, many: str) -> str:
    if whole == 1:
        return f"The image {one}"
    return f"{part} of {whole} images {one if part == 1 else many}"
