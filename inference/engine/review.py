"""When a case needs a review of its images, because the case result alone could mislead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Reason:
    """Why a review is recommended: a stable ``code``, a short ``headline`` and a sentence."""

    code: str
    headline: str
    message: str

    def to_json(self) -> dict[str, str]:
        """The fields of the API: ``code`` and ``message``."""
        return {name: value for name, value in asdict(self).items() if name != "headline"}


def review_reasons(
    verdict: str, *, images: int, malignant: int = 0, indeterminate: int = 0, rejected: int = 0, failed: int = 0
) -> list[Reason]:
    """The reasons to review a case, the most important first; empty if no review is recommended.

    ``verdict`` is the case result, or empty if there is none yet. ``images`` is the number of images with a result,
    ``rejected`` the number of those that are out of domain, ``failed`` the number of images without a result.

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
    """The headline that replaces the result of a case, or an empty string if the result is shown.

    It replaces *benign* whenever a review is recommended, and *indeterminate* if an image is malignant.
    """
    hides = verdict == "benign" or (verdict == "indeterminate" and reasons and reasons[0].code == "malignant_image")
    return f"Review: {reasons[0].headline}" if reasons and hides else ""


def _share(part: int, whole: int, one: str, many: str) -> str:
    if whole == 1:
        return f"The image {one}"
    return f"{part} of {whole} images {one if part == 1 else many}"
