"""Serializers of the resources: cases, slides, analyses, readings, model versions, tokens."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cases import services
from cases.accounts import tokens
from cases.accounts.adapters import LONGEST_EMAIL
from cases.models import ApiToken, Case, CaseState, Reading, Review, Slide, User
from inference.engine.grid import MAX_OVERLAP
from inference.engine.results import probabilities
from inference.models import Analysis, ModelVersion, State, Verdict

from . import results
from .common import BLANK, Count, ModelSerializer, NonBlankText, Number, Probability, Text
from .errors import Problem
from .serializers import CutPointsOut, FileErrorOut, PagesIn, ProbabilitiesOut, ReasonOut, SingleOut


class Linked(serializers.Serializer[Any]):
    """A serializer that can link to other resources."""

    def link(self, name: str, *args: Any) -> str:
        return str(self.context["request"].build_absolute_uri(reverse(name, args=args)))


def overlap_field(**kwargs: Any) -> Number:
    return Number(
        min_value=0.0,
        max_value=MAX_OVERLAP,
        help_text="Minimum overlap of neighbouring patches, as a fraction of the patch.",
        **kwargs,
    )


class TagName(NonBlankText):
    """A tag; it contains no comma, because forms separate tags with commas."""

    # Matches in linear time, because it is also applied to text that is too long.
    pattern = f"^[{BLANK}]*[^,{BLANK}][^,]*$"
    message = "A tag can't be blank or contain a comma."

    def to_internal_value(self, data: Any) -> str:
        return str(super().to_internal_value(data)).lower()


class TagsField(serializers.ListField):
    def to_internal_value(self, data: Any) -> list[str]:
        # The length is checked before the tags are.
        if isinstance(data, list) and self.max_length and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return list(super().to_internal_value(data))

    def to_representation(self, data: Any) -> list[str]:
        return [tag.name for tag in data.all()]


class CaseOut(Linked, ModelSerializer[Case]):
    title = NonBlankText(max_length=120)
    owner = serializers.CharField(source="owner.username", read_only=True)
    overlap = overlap_field(required=False)
    tags = TagsField(child=TagName(max_length=30), required=False, max_length=20)
    state = serializers.ChoiceField(CaseState.choices, read_only=True)
    verdict = serializers.SerializerMethodField()
    probabilities = serializers.SerializerMethodField()
    confidence = Probability(read_only=True, allow_null=True)
    review_recommended = serializers.BooleanField(read_only=True)
    reasons = ReasonOut(many=True, read_only=True)
    result_url = serializers.SerializerMethodField()
    slides_url = serializers.SerializerMethodField()
    report_url = serializers.SerializerMethodField()

    class Meta:
        model = Case
        fields = (
            "id", "title", "patient", "notes", "magnification", "overlap", "tags", "owner", "is_synthetic",
            "state", "verdict", "probabilities", "confidence", "review_recommended", "reasons",
            "slide_count", "open_count", "failed_count",
            "created_at", "updated_at", "result_url", "slides_url", "report_url",
        )  # fmt: skip
        read_only_fields = (
            "id", "is_synthetic", "slide_count", "open_count", "failed_count", "created_at", "updated_at",
        )  # fmt: skip

    @extend_schema_field(serializers.ChoiceField(Verdict.choices, allow_null=True))
    def get_verdict(self, case: Case) -> str | None:
        return case.verdict or None

    @extend_schema_field(ProbabilitiesOut(allow_null=True))
    def get_probabilities(self, case: Case) -> dict[str, float] | None:
        return None if case.probability is None else probabilities(case.probability)

    def get_result_url(self, case: Case) -> str:
        return self.link("api:case-result", case.pk)

    def get_slides_url(self, case: Case) -> str:
        return self.link("api:case-slides", case.pk)

    def get_report_url(self, case: Case) -> str:
        return results.report_url(self.context["request"], case.pk)

    def create(self, validated_data: dict[str, Any]) -> Case:
        names = validated_data.pop("tags", [])
        validated_data.setdefault("overlap", settings.ANALYSIS_OVERLAP)
        return services.create_case(tags=names, detail="by API", **validated_data)

    def update(self, case: Case, validated_data: dict[str, Any]) -> Case:
        names = validated_data.pop("tags", None)
        return services.update_case(case, validated_data, names, detail="by API")


class AnalysisOut(Linked, ModelSerializer[Analysis]):
    """One run of one model version on one slide."""

    case = serializers.UUIDField(source="slide.case_id", read_only=True)
    model_version = serializers.UUIDField(source="model_version_id", read_only=True)
    progress = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    result = serializers.SerializerMethodField()
    result_url = serializers.SerializerMethodField()
    patches_url = serializers.SerializerMethodField()

    class Meta:
        model = Analysis
        fields = (
            "id", "slide", "case", "model_version", "is_current", "overlap", "state", "progress",
            "queued_at", "started_at", "finished_at", "attempts", "error", "result", "result_url", "patches_url",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(
        {
            "type": "object",
            "required": ["current", "total", "percentage"],
            "properties": {
                "current": {"type": "integer", "description": "Number of patches done."},
                "total": {"type": "integer"},
                "percentage": {"type": "number"},
            },
        }
    )
    def get_progress(self, analysis: Analysis) -> dict[str, Any]:
        done, total = analysis.patches_done, analysis.patches_total or analysis.expected_patches
        return {"current": done, "total": total, "percentage": round(100.0 * done / total, 1)}

    @extend_schema_field(FileErrorOut(allow_null=True))
    def get_error(self, analysis: Analysis) -> dict[str, str] | None:
        return results.file_error(analysis) if analysis.state == State.FAILED else None

    @extend_schema_field(SingleOut(allow_null=True))
    def get_result(self, analysis: Analysis) -> dict[str, Any] | None:
        if analysis.state != State.DONE:
            return None
        return results.single(self.context["request"], analysis, cached=False)

    def get_result_url(self, analysis: Analysis) -> str:
        return self.link("api:analysis-result", analysis.pk)

    def get_patches_url(self, analysis: Analysis) -> str:
        return self.link("api:analysis-patches", analysis.pk)


class SlideOut(Linked, ModelSerializer[Slide]):
    filename = serializers.CharField(source="original_name", read_only=True)
    warnings = serializers.ListField(child=serializers.CharField(), read_only=True, help_text="About the file.")
    analysis = serializers.SerializerMethodField(help_text="Id of the current analysis.")
    state = serializers.SerializerMethodField()
    verdict = serializers.SerializerMethodField()
    image_url = serializers.SerializerMethodField()
    analyses_url = serializers.SerializerMethodField()

    class Meta:
        model = Slide
        fields = (
            "id", "case", "filename", "sha256", "format", "size", "width", "height", "warnings",
            "magnification", "added_at", "analysis", "state", "verdict", "image_url", "analyses_url",
        )  # fmt: skip
        read_only_fields = fields

    def get_analysis(self, slide: Slide) -> uuid.UUID | None:
        return slide.analysis.pk if slide.analysis else None

    @extend_schema_field(serializers.ChoiceField(State.choices, allow_null=True))
    def get_state(self, slide: Slide) -> str | None:
        return slide.analysis.state if slide.analysis else None

    @extend_schema_field(serializers.ChoiceField(Verdict.choices, allow_null=True))
    def get_verdict(self, slide: Slide) -> str | None:
        return (slide.analysis.verdict or None) if slide.analysis else None

    def get_image_url(self, slide: Slide) -> str:
        return self.link("api:slide-image", slide.pk)

    def get_analyses_url(self, slide: Slide) -> str:
        return self.link("api:slide-analyses", slide.pk)


class SlidesIn(PagesIn):
    files = serializers.ListField(
        child=serializers.FileField(),
        min_length=1,
        max_length=settings.UPLOAD_MAX_FILES,
        help_text="Images; repeat the field for each.",
    )


class SlidesAddedOut(serializers.Serializer[Any]):
    slides = SlideOut(many=True)
    errors = FileErrorOut(many=True, help_text="Files that were not accepted, with reasons.")  # type: ignore[assignment]  # hides an attribute


class RunIn(serializers.Serializer[Any]):
    model_version = serializers.UUIDField(required=False, help_text="Default: the active model version.")
    overlap = overlap_field(required=False)

    def values(self) -> dict[str, Any]:
        """Keyword arguments for ``services.request_again``. Raises :class:`Problem` for an unknown model version."""
        values = dict(self.validated_data)
        if "model_version" in values:
            values["model_version"] = ModelVersion.objects.filter(pk=values["model_version"]).first()
            if values["model_version"] is None:
                raise Problem("not_found", "This model version does not exist.")
        return values


class PatchOut(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    x = serializers.IntegerField(help_text="Left edge in the slide, in pixels.")
    y = serializers.IntegerField(help_text="Top edge in the slide, in pixels.")
    malignant = Probability(
        allow_null=True, help_text="Uncalibrated probability of malignancy; null for a patch without tissue."
    )
    tissue = Probability(
        allow_null=True, help_text="Fraction of the patch that is tissue; null in analyses by earlier versions."
    )


class PatchesOut(serializers.Serializer[Any]):
    """The patches of a finished analysis, row by row."""

    analysis = serializers.UUIDField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    patch_size = serializers.IntegerField()
    overlap = serializers.FloatField()
    patches = PatchOut(many=True)


class ReviewOut(ModelSerializer[Review]):
    author = serializers.CharField(source="author.username", read_only=True)
    reading = serializers.ChoiceField(Reading.choices)
    verdict = serializers.SerializerMethodField(help_text="Case result when the reading was signed.")
    probability = Probability(read_only=True, allow_null=True)
    agrees = serializers.BooleanField(read_only=True, allow_null=True)
    blind = serializers.BooleanField(
        source="was_blind", read_only=True, help_text="Signed while other people's readings of the case were hidden."
    )

    class Meta:
        model = Review
        fields = (
            "id", "author", "reading", "subtype", "comment", "created_at", "verdict", "probability", "agrees",
            "blind",
        )  # fmt: skip
        read_only_fields = ("id", "created_at")

    @extend_schema_field(serializers.ChoiceField(Verdict.choices, allow_null=True))
    def get_verdict(self, review: Review) -> str | None:
        return review.verdict or None


class ModelVersionOut(ModelSerializer[ModelVersion]):
    cut_points = serializers.SerializerMethodField()

    class Meta:
        model = ModelVersion
        fields = ("id", "name", "version", "sha256", "calibrated", "cut_points", "is_active", "added_at")
        read_only_fields = fields

    @extend_schema_field(CutPointsOut)
    def get_cut_points(self, version: ModelVersion) -> dict[str, float]:
        return {"low": version.cut_low, "high": version.cut_high}


class ModelVersionDetailOut(ModelVersionOut):
    metadata = serializers.DictField(read_only=True, help_text="Training and metrics as recorded in the checkpoint.")

    class Meta(ModelVersionOut.Meta):
        fields = (*ModelVersionOut.Meta.fields, "metadata")  # type: ignore[assignment]  # longer
        read_only_fields = fields  # type: ignore[assignment]  # longer


class TokenOut(ModelSerializer[ApiToken]):
    name = NonBlankText(max_length=80)
    hint = serializers.CharField(read_only=True, help_text="First characters of the token.")
    created_at = serializers.DateTimeField(source="created", read_only=True)
    expires_at = serializers.DateTimeField(source="expiry", read_only=True, allow_null=True)
    days = Count(
        write_only=True,
        required=False,
        min_value=0,
        max_value=tokens.MAX_DAYS,
        default=tokens.DEFAULT_DAYS,
        help_text="Validity in days; 0 means no expiry.",
    )

    class Meta:
        model = ApiToken
        fields = ("id", "name", "hint", "created_at", "expires_at", "last_used_at", "days")
        read_only_fields = ("id", "last_used_at")


class NewTokenOut(TokenOut):
    token = serializers.CharField(read_only=True, help_text="The token itself, which is shown only once.")

    class Meta(TokenOut.Meta):
        fields = (*TokenOut.Meta.fields, "token")  # type: ignore[assignment]  # longer


class SignInIn(serializers.Serializer[Any]):
    username = NonBlankText(max_length=LONGEST_EMAIL, help_text="Username or e-mail address.")
    password = NonBlankText(max_length=1000, trim_whitespace=False)
    code = Text(
        max_length=20,
        required=False,
        allow_blank=True,
        help_text="One-time code, for accounts with two-factor authentication.",
    )
    name = NonBlankText(max_length=80, required=False, default="sign-in", help_text="Name of the token.")
    days = Count(
        required=False, min_value=1, max_value=tokens.MAX_DAYS, default=1, help_text="Validity of the token in days."
    )


class LimitsOut(serializers.Serializer[Any]):
    max_bytes = serializers.IntegerField(help_text="Size of one file.")
    max_files = serializers.IntegerField(help_text="Files per call.")
    max_request_bytes = serializers.IntegerField(help_text="Size of one call.")
    max_pixels = serializers.IntegerField(help_text="Pixels of one image.")


class MeOut(ModelSerializer[User]):
    name = serializers.CharField(source="get_full_name", read_only=True)
    limits = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ("id", "username", "name", "email", "is_reviewer", "default_magnification", "time_zone", "limits")
        read_only_fields = fields

    is_reviewer = serializers.BooleanField(read_only=True, help_text="Whether this user may read every case.")

    @extend_schema_field(LimitsOut)
    def get_limits(self, user: User) -> dict[str, int]:
        return {**services.limits(), "max_request_bytes": settings.UPLOAD_MAX_REQUEST_BYTES}
