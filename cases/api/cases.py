"""Cases, their slides and their readings."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from cases import services
from cases.audit import access_log
from cases.images.serving import send as send_file
from cases.limits.quotas import is_received
from cases.models import Case, Review, Slide
from cases.reporting import pdf as reports
from cases.reporting import text

from . import answers, errors
from .authentication import person
from .common import AccountThrottle, AnonymousThrottle, FormParser, UploadThrottle
from .filters import CaseFilter
from .predict import PENDING, files_of, require_length
from .resource_serializers import CaseOut, ReviewOut, RunIn, SlideOut, SlidesAddedOut, SlidesIn
from .serializers import FolderOut, PagesIn
from .submit import Submitted, analyses_of

UPLOAD_THROTTLES = [AnonymousThrottle, AccountThrottle, UploadThrottle]


def readable_case(request: Request, pk: uuid.UUID) -> Case:
    return generics.get_object_or_404(Case.objects.visible_to(request.user), pk=pk)


def own_case(request: Request, pk: uuid.UUID) -> Case:
    return generics.get_object_or_404(Case.objects.editable_by(request.user), pk=pk)


@extend_schema(tags=["Cases"])
@extend_schema_view(
    get=extend_schema(
        operation_id="cases_list",
        summary="List cases",
        description="Your own cases, newest first. Reviewers see all cases.",
    ),
    post=extend_schema(operation_id="cases_create", summary="Create a case"),
)
class Cases(generics.ListCreateAPIView[Case]):
    serializer_class = CaseOut
    parser_classes = [JSONParser]
    filterset_class = CaseFilter

    def get_queryset(self) -> QuerySet[Case]:
        return Case.objects.visible_to(self.request.user).select_related("owner").prefetch_related("tags")

    def paginate_queryset(self, queryset: Any) -> list[Any] | None:
        page = super().paginate_queryset(queryset)
        access_log.note_list(person(self.request), [case.pk for case in page or []])
        return page

    def perform_create(self, serializer: BaseSerializer[Case]) -> None:
        serializer.save(owner=self.request.user)


@extend_schema(tags=["Cases"])
@extend_schema_view(
    get=extend_schema(operation_id="cases_get", summary="Read a case"),
    patch=extend_schema(operation_id="cases_change", summary="Change the details of a case"),
    delete=extend_schema(
        operation_id="cases_delete",
        summary="Delete a case",
        description="Permanently, with its slides, analyses and readings.",
    ),
)
class CaseDetail(generics.RetrieveUpdateDestroyAPIView[Case]):
    serializer_class = CaseOut
    parser_classes = [JSONParser]
    http_method_names = ["get", "head", "options", "patch", "delete"]
    lookup_url_kwarg = "pk"

    def get_queryset(self) -> QuerySet[Case]:
        cases = Case.objects.select_related("owner").prefetch_related("tags")
        safe = self.request.method in ("GET", "HEAD", "OPTIONS")
        return cases.visible_to(self.request.user) if safe else cases.editable_by(self.request.user)

    def perform_destroy(self, instance: Case) -> None:
        services.remove_case(instance, person(self.request))


@extend_schema(tags=["Cases"])
class CaseResult(APIView):
    @extend_schema(
        operation_id="cases_result",
        summary="Result of a case",
        description="The response of `POST /predict/folder`; 202 while analyses are open.",
        responses={200: FolderOut, 202: PENDING},
    )
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        case = readable_case(request, pk)
        if not case.slide_count:
            raise errors.Problem("not_finished", "The case has no slides yet.")
        if case.open_count or not is_received(case):
            rejected = [problem for sent in case.submissions.all() for problem in sent.rejected]
            return answers.pending(request, Submitted(case, analyses_of(case), rejected), is_folder=True)
        return Response(answers.folder_result(request, case.pk))


@extend_schema(tags=["Cases"])
class CaseAnalyses(APIView):
    parser_classes = [JSONParser]

    @extend_schema(
        operation_id="cases_analyse",
        summary="Analyse all slides of a case again",
        description="With the active model or the given version. Slides with an open analysis keep it. If the queue "
        "quota (`MAX_PENDING_PER_USER`, `MAX_PENDING`) does not allow all slides, those with the oldest results are "
        "queued; the others are listed in `errors` with the code `busy`.",
        request=RunIn,
        responses={202: PENDING},
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        case = own_case(request, pk)
        given = RunIn(data=request.data)
        given.is_valid(raise_exception=True)
        slides = list(case.slides.all())
        if not slides:
            raise errors.Problem("not_finished", "The case has no slides yet.")
        taken = {analysis.slide_id for analysis in services.request_again(case, slides, case.owner, **given.values())}
        left = [slide for slide in slides if slide.pk not in taken]
        problems = [{"filename": one.original_name, "code": "busy", "reason": text.NO_ROOM} for one in left]
        return answers.pending(request, Submitted(case, analyses_of(case), problems), is_folder=True)


@extend_schema(tags=["Cases"])
class CaseReport(APIView):
    throttle_classes = [AnonymousThrottle, AccountThrottle, UploadThrottle]

    @extend_schema(
        operation_id="cases_report",
        summary="Report of a case",
        description="PDF with the case result, maps, readings and model. Its checksum verifies a printed copy. Images "
        "whose files are missing are named in the report.",
        parameters=[OpenApiParameter("paper", str, enum=sorted(reports.PAPERS), default="a4")],
        responses={(200, "application/pdf"): OpenApiResponse(OpenApiTypes.BINARY, "The report.")},
    )
    def get(self, request: Request, pk: uuid.UUID) -> HttpResponse:
        case = readable_case(request, pk)
        paper = request.query_params.get("paper", "a4")
        if paper not in reports.PAPERS:
            raise errors.invalid("paper", f"Choose one of {', '.join(sorted(reports.PAPERS))}.")
        printed = reports.make(case, person(request), request.build_absolute_uri("/").rstrip("/"), paper)
        return HttpResponse(printed.pdf, content_type="application/pdf", headers={"Cache-Control": "private, no-store"})


@extend_schema(tags=["Slides"])
class CaseSlides(generics.ListAPIView[Slide]):
    serializer_class = SlideOut
    parser_classes = [FormParser]
    filter_backends = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        require_length(request)
        super().initial(request, *args, **kwargs)

    def get_throttles(self) -> list[Any]:
        kinds = UPLOAD_THROTTLES if self.request.method == "POST" else UPLOAD_THROTTLES[:2]
        return [kind() for kind in kinds]

    def get_queryset(self) -> QuerySet[Slide]:
        if getattr(self, "swagger_fake_view", False):
            return Slide.objects.none()
        return Slide.objects.filter(case=readable_case(self.request, self.kwargs["pk"])).with_analysis()

    @extend_schema(operation_id="slides_list", summary="List the slides of a case")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="slides_add",
        summary="Add images to a case",
        description="Each image becomes a slide and is analysed in the background with the case's overlap. Files that "
        "can't be used are listed in `errors`; the others are accepted.",
        request={"multipart/form-data": SlidesIn},
        responses={201: SlidesAddedOut},
    )
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        case = own_case(request, pk)
        files = files_of(request, "files", settings.UPLOAD_MAX_FILES)
        options = PagesIn(data=request.data)
        options.is_valid(raise_exception=True)
        slides, rejected = services.add_slides(case, files, all_pages=options.validated_data["all_pages"])
        if not slides:
            raise errors.invalid_files(rejected)
        stored = Slide.objects.filter(pk__in=[slide.pk for slide in slides]).with_analysis()
        shown = SlideOut(stored, many=True, context=self.get_serializer_context()).data
        return Response({"slides": shown, "errors": [vars(problem) for problem in rejected]}, status=201)


@extend_schema(tags=["Slides"])
@extend_schema_view(
    get=extend_schema(operation_id="slides_get", summary="Read a slide"),
    delete=extend_schema(operation_id="slides_delete", summary="Remove a slide from its case"),
)
class SlideDetail(generics.RetrieveDestroyAPIView[Slide]):
    serializer_class = SlideOut
    lookup_url_kwarg = "pk"

    def get_queryset(self) -> QuerySet[Slide]:
        slides = Slide.objects.select_related("case__owner").with_analysis()
        return (
            slides.editable_by(self.request.user)
            if self.request.method == "DELETE"
            else slides.visible_to(self.request.user)
        )

    def perform_destroy(self, instance: Slide) -> None:
        services.remove_slide(instance, person(self.request))


@extend_schema(tags=["Slides"])
class SlideImage(APIView):
    @extend_schema(
        operation_id="slides_image",
        summary="The pixels of a slide",
        responses={(200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY, "The stored PNG.")},
    )
    def get(self, request: Request, pk: uuid.UUID) -> HttpResponseBase:
        slide = generics.get_object_or_404(Slide.objects.visible_to(request.user), pk=pk)
        return send_file(slide.file, "image/png")


@extend_schema(tags=["Reviews"])
@extend_schema_view(
    get=extend_schema(
        operation_id="reviews_list",
        summary="List the readings of a case",
        description="In a blinded case only your own readings, until two people have signed.",
    ),
    post=extend_schema(
        operation_id="reviews_sign",
        summary="Sign a reading",
        description="Stored permanently with the current case result. Signing again adds a second reading.",
    ),
)
class CaseReviews(generics.ListCreateAPIView[Review]):
    serializer_class = ReviewOut
    parser_classes = [JSONParser]
    filter_backends = []

    def get_queryset(self) -> QuerySet[Review]:
        if getattr(self, "swagger_fake_view", False):
            return Review.objects.none()
        return services.visible_reviews(readable_case(self.request, self.kwargs["pk"]), person(self.request))

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        case = readable_case(request, self.kwargs["pk"])
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        review = services.sign_review(case, person(request), **given.validated_data)
        return Response(self.get_serializer(review).data, status=201)
