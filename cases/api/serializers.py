"""Requests and responses of the prediction calls."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework import serializers

from cases.models import Magnification
from inference.engine.formats.table import NAMES
from inference.engine.grid import MAX_OVERLAP
from inference.models import Verdict

from .common import Probability


class OptionsIn(serializers.Serializer[Any]):
    """Fields sent together with the files."""

    overlap = serializers.FloatField(
        required=False,
        min_value=0.0,
        max_value=MAX_OVERLAP,
        help_text="Minimum overlap of neighbouring patches, as a fraction of the patch, 0 to 0.75. More overlap gives "
        "a finer map and takes longer. Default: the server's setting, usually 0.",
    )
    magnification = serializers.ChoiceField(
        choices=Magnification.choices,
        required=False,
        help_text="Objective magnification. Stored with the slide; it does not affect the result.",
    )

    def options(self) -> tuple[float, str]:
        given = self.validated_data
        return (
            given.get("overlap", settings.ANALYSIS_OVERLAP),
            given.get("magnification", Magnification.UNKNOWN.value),
        )


class PagesIn(serializers.Serializer[Any]):
    """For calls that take several images."""

    # A form field is text: a boolean field would also take "0", "on" and the like.
    all_pages = serializers.ChoiceField(
        choices=["true", "false"],
        default="false",
        help_text="true: take every page of a file that is a picture of its own as a slide. Otherwise one is taken, "
        "with a warning.",
    )

    def validate_all_pages(self, value: str) -> bool:
        return value == "true"


class FolderOptionsIn(PagesIn, OptionsIn):
    """Fields beside the files of a folder."""


class SingleIn(OptionsIn):
    file = serializers.FileField(help_text=f"One image: {NAMES}.")


class FolderIn(FolderOptionsIn):
    files = serializers.ListField(
        child=serializers.FileField(),
        min_length=1,
        max_length=settings.UPLOAD_MAX_FILES,
        help_text="Images; repeat the field for each.",
    )


class ProbabilitiesOut(serializers.Serializer[Any]):
    benign = Probability()
    malignant = Probability()


class CutPointsOut(serializers.Serializer[Any]):
    low = Probability(help_text="Below this threshold: benign.")
    high = Probability(help_text="Above this threshold: malignant. Between the two: indeterminate.")


class PatchBreakdownOut(serializers.Serializer[Any]):
    benign_patches = serializers.IntegerField(min_value=0)
    malignant_patches = serializers.IntegerField(min_value=0)


class ModelOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.CharField()
    sha256 = serializers.CharField(help_text="SHA-256 of the checkpoint file.")
    runtime = serializers.CharField(help_text="Runtime of the network; the same runtime gives bit-identical results.")
    calibrated = serializers.BooleanField()


class FileErrorOut(serializers.Serializer[Any]):
    """A file without a result."""

    filename = serializers.CharField(allow_blank=True)
    code = serializers.CharField(
        help_text="empty, not_an_image, unsupported, damaged, too_many_pixels, too_small, too_large, case_full, or the "
        "reason why its analysis failed; busy if it can be sent again."
    )
    reason = serializers.CharField()

    class Meta:
        ref_name = "FileError"


class SingleOut(serializers.Serializer[Any]):
    """The result of one image. The first six fields are those of the upstream demo."""

    prediction = serializers.ChoiceField(Verdict.choices, help_text="The same as `verdict`.")
    confidence = Probability(help_text="The larger of the two probabilities; 0 if out_of_domain.")
    probabilities = ProbabilitiesOut(help_text="Calibrated; they sum to 1. 0.5 each if out_of_domain.")
    num_patches = serializers.IntegerField(
        min_value=1, help_text="Number of patches that cover the image: `tissue_patches` plus `empty_patches`."
    )
    patch_breakdown = PatchBreakdownOut(
        help_text="Number of patches with tissue below and above an uncalibrated probability of 0.5. Both 0 if "
        "out_of_domain."
    )
    processing_time_seconds = serializers.FloatField(help_text="Time from the first patch to the last.", min_value=0)
    tissue_patches = serializers.IntegerField(
        min_value=0, help_text="Number of patches with tissue. Only these are analysed."
    )
    empty_patches = serializers.IntegerField(min_value=0, help_text="Number of patches without tissue; not analysed.")
    id = serializers.UUIDField(help_text="Id of the analysis: `/api/v1/analyses/{id}`.")
    case = serializers.UUIDField(help_text="Id of the case that contains the slide.")
    slide = serializers.UUIDField()
    filename = serializers.CharField()
    verdict = serializers.ChoiceField(Verdict.choices)
    raw_probability = Probability(
        allow_null=True,
        help_text="Uncalibrated mean probability of malignancy of the patches, weighted by their share of tissue; null "
        "if out_of_domain.",
    )
    cut_points = CutPointsOut()
    warnings = serializers.ListField(child=serializers.CharField())
    overlap = serializers.FloatField()
    magnification = serializers.ChoiceField(Magnification.choices)
    model = ModelOut()
    cached = serializers.BooleanField(help_text="Whether this is an earlier result for the same file.")
    patch_map_url = serializers.URLField(
        allow_null=True, help_text="PNG of the patch probabilities; requires the same token. null if out_of_domain."
    )
    report_url = serializers.URLField(help_text="PDF report of the case; requires the same token.")


class AggregateOut(serializers.Serializer[Any]):
    """The case result: mean of the calibrated probabilities of the images of H&E breast tissue, with the same
    thresholds."""

    prediction = serializers.ChoiceField(Verdict.choices)
    confidence = Probability()
    probabilities = ProbabilitiesOut()
    verdict = serializers.ChoiceField(Verdict.choices)
    cut_points = CutPointsOut()


class ImageBreakdownOut(serializers.Serializer[Any]):
    benign_images = serializers.IntegerField(min_value=0)
    malignant_images = serializers.IntegerField(min_value=0)
    indeterminate_images = serializers.IntegerField(min_value=0)
    excluded_images = serializers.IntegerField(min_value=0, help_text="Not H&E breast tissue; left out of the mean.")


class ReasonOut(serializers.Serializer[Any]):
    """A reason why the images of a case should be reviewed."""

    code = serializers.CharField(
        help_text="malignant_image, mostly_indeterminate, rejected_images or failed_images. Later versions may add "
        "others."
    )
    message = serializers.CharField()


class FolderOut(serializers.Serializer[Any]):
    """The result of a case of several images."""

    aggregated_diagnosis = AggregateOut()
    num_images = serializers.IntegerField(min_value=1, help_text="Number of images with a result.")
    image_breakdown = ImageBreakdownOut()
    review_recommended = serializers.BooleanField(
        help_text="Whether the result must not be used without reviewing the images; see `reasons`."
    )
    reasons = ReasonOut(many=True, help_text="Most important first.")
    individual_predictions = SingleOut(many=True)
    processing_time_seconds = serializers.FloatField(
        help_text="Time from the start of the first analysis to the end of the last.", min_value=0
    )
    errors = FileErrorOut(  # type: ignore[assignment]  # hides an attribute
        many=True, help_text="Files without a result, with reasons. The other files are not affected."
    )
    id = serializers.UUIDField(help_text="Id of the case: `/api/v1/cases/{id}`.")
    case = serializers.UUIDField()
    verdict = serializers.ChoiceField(Verdict.choices)
    warnings = serializers.ListField(child=serializers.CharField())
    model = ModelOut()
    cached = serializers.BooleanField()
    report_url = serializers.URLField()


class PendingOut(serializers.Serializer[Any]):
    """An analysis that is not finished. Poll `result_url` until it returns 200."""

    id = serializers.UUIDField(help_text="Id of the analysis, or of the case if several images were sent.")
    case = serializers.UUIDField()
    state = serializers.ChoiceField(["queued", "running"])
    current = serializers.IntegerField(min_value=0, help_text="Number of patches done.")
    total = serializers.IntegerField(min_value=0, help_text="Total number of patches.")
    percentage = serializers.FloatField(min_value=0, max_value=100)
    ahead = serializers.IntegerField(min_value=0, help_text="Number of analyses ahead in the queue.")
    result_url = serializers.URLField()
    errors = FileErrorOut(many=True, help_text="Files that were not accepted.")  # type: ignore[assignment]  # hides an attribute
