"""Analyses and model versions."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases import services
from cases.audit import access_log
from cases.models import Case, Slide
from inference.engine import patchmap
from inference.engine.grid import PATCH
from inference.models import Analysis, ModelVersion, PatchTable, Verdict
from inference.tables import write_csv

from . import answers, errors
from .authentication import person
from .filters import AnalysisFilter
from .predict import PENDING
from .resource_serializers import AnalysisOut, ModelVersionDetailOut, ModelVersionOut, PatchesOut, RunIn
from .serializers import SingleOut
from .submit import Submitted


def visible_analyses(request: Request) -> QuerySet[Analysis]:
    cases = Case.objects.visible_to(request.user)
    return Analysis.with_model().select_related("slide").filter(slide__case__in=cases)


def get_analysis(request: Request, pk: uuid.UUID) -> Analysis:
    return generics.get_object_or_404(visible_analyses(request), pk=pk)


def patch_table(request: Request, pk: uuid.UUID) -> PatchTable:
    """The patches of a finished analysis. Raises :class:`errors.Problem` without a result."""
    analysis = get_analysis(request, pk)
    if analysis.verdict == Verdict.OUT_OF_DOMAIN:
        raise errors.Problem(
            "out_of_domain", "The image is not H&E breast tissue, so it has neither a map nor a patch table."
        )
    table = PatchTable.objects.filter(analysis=analysis).first()
    if table is None:
        raise errors.Problem("not_finished", "This analysis has no result.")
    table.analysis = analysis
    return table


@extend_schema(tags=["Analyses"])
@extend_schema_view(
    get=extend_schema(operation_id="analyses_list", summary="List analyses", description="Newest first.")
)
class Analyses(generics.ListAPIView[Analysis]):
    serializer_class = AnalysisOut
    filterset_class = AnalysisFilter

    def get_queryset(self) -> QuerySet[Analysis]:
        return visible_analyses(self.request)

    def paginate_queryset(self, queryset: Any) -> list[Any] | None:
        page = super().paginate_queryset(queryset)
        access_log.note_list(person(self.request), {analysis.slide.case_id for analysis in page or []})
        return page


@extend_schema(tags=["Analyses"])
@extend_schema_view(
    get=extend_schema(
        operation_id="analyses_get",
        summary="Read an analysis",
        description="Its state and progress, and its result or error once it has ended.",
    )
)
class AnalysisDetail(generics.RetrieveAPIView[Analysis]):
    serializer_class = AnalysisOut
    lookup_url_kwarg = "pk"

    def get_queryset(self) -> QuerySet[Analysis]:
        return visible_analyses(self.request)


@extend_schema(tags=["Analyses"])
class AnalysisResult(APIView):
    @extend_schema(
        operation_id="analyses_result",
        summary="Result of an analysis",
        description="The response of `POST /predict/single`; 202 while the analysis is open, an error if it failed.",
        responses={200: SingleOut, 202: PENDING},
    )
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        analysis = get_analysis(request, pk)
        if analysis.is_open:
            case = Case.objects.get(pk=analysis.slide.case_id)
            return answers.pending(request, Submitted(case, [analysis], []), is_folder=False)
        return Response(answers.single_result(request, analysis.pk))


class PatchCSV(BaseRenderer):
    """The patch table as CSV: a header line, then one line per patch."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> str:
        out = io.StringIO()
        columns = ["index", "x", "y", "malignant", "tissue"]
        # The response to OPTIONS has no patches.
        write_csv(out, columns, ([patch[name] for name in columns] for patch in data.get("patches", [])))
        return out.getvalue()


@extend_schema(tags=["Analyses"])
class AnalysisPatches(APIView):
    renderer_classes = [JSONRenderer, PatchCSV]

    @extend_schema(
        operation_id="analyses_patches",
        summary="Patch table of an analysis",
        description="Position, uncalibrated probability of malignancy (null for a patch without tissue) and fraction "
        "of tissue of each patch, as JSON or, with `?format=csv` or `Accept: text/csv`, as CSV (index, x, y, "
        "malignant, tissue).",
        parameters=[OpenApiParameter("format", str, enum=["json", "csv"])],
        responses={(200, "application/json"): PatchesOut, (200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        table = patch_table(request, pk)
        body = {
            "analysis": str(pk),
            "width": table.width,
            "height": table.height,
            "patch_size": PATCH,
            "overlap": table.analysis.overlap,
            "patches": table.rows(),
        }
        return Response(body)


@extend_schema(tags=["Analyses"])
class AnalysisMap(APIView):
    @extend_schema(
        operation_id="analyses_map",
        summary="Patch map of an analysis",
        description="The uncalibrated probability of malignancy across the slide as a PNG in the cividis colour map, "
        "at most 1024 pixels a side, to overlay on the slide. Transparent where there is no tissue, opaque elsewhere.",
        responses={(200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY, "The map.")},
    )
    def get(self, request: Request, pk: uuid.UUID) -> HttpResponse:
        table = patch_table(request, pk)
        png = patchmap.render(patchmap.surface(table.grid, np.asarray(table.malignant)))
        return HttpResponse(png, content_type="image/png", headers={"Cache-Control": "private, no-store"})


@extend_schema(tags=["Analyses"])
class SlideAnalyses(generics.ListAPIView[Analysis]):
    serializer_class = AnalysisOut
    parser_classes = [JSONParser]
    filter_backends = []

    def get_queryset(self) -> QuerySet[Analysis]:
        if getattr(self, "swagger_fake_view", False):
            return Analysis.objects.none()
        slide = generics.get_object_or_404(Slide.objects.visible_to(self.request.user), pk=self.kwargs["pk"])
        return visible_analyses(self.request).filter(slide=slide)

    @extend_schema(operation_id="slides_analyses", summary="Analyses of a slide", description="Newest first.")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="slides_analyse",
        summary="Analyse a slide again",
        description="With the active model or the given version. If an analysis of the slide is still open, it is "
        "returned and no second one is queued. Earlier analyses are kept.",
        request=RunIn,
        responses={202: PENDING},
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        slides = Slide.objects.editable_by(request.user).select_related("case__owner")
        slide = generics.get_object_or_404(slides, pk=pk)
        given = RunIn(data=request.data)
        given.is_valid(raise_exception=True)
        analyses = services.request_again(slide.case, [slide], slide.case.owner, **given.values())
        analysis = answers.load(analyses[0].pk)
        return answers.pending(request, Submitted(slide.case, [analysis], []), is_folder=False)


@extend_schema(tags=["Models"])
@extend_schema_view(get=extend_schema(operation_id="models_list", summary="List model versions"))
class Models(generics.ListAPIView[ModelVersion]):
    serializer_class = ModelVersionOut
    queryset = ModelVersion.objects.all()
    filter_backends = []


@extend_schema(tags=["Models"])
@extend_schema_view(get=extend_schema(operation_id="models_get", summary="Read a model version"))
class ModelDetail(generics.RetrieveAPIView[ModelVersion]):
    serializer_class = ModelVersionDetailOut
    queryset = ModelVersion.objects.all()
    lookup_url_kwarg = "pk"
