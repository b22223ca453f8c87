"""The prediction calls, compatible with clients of the upstream demo."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.views import APIView

from cases.limits.concurrency import THREADS
from cases.limits.quotas import CapacityExceeded
from inference.models import Analysis, State

from . import answers, errors, results, streams
from . import event_stream as sse
from .authentication import person, recheck_authentication
from .common import AccountThrottle, AnonymousThrottle, FormParser, UploadThrottle
from .serializers import FolderIn, FolderOptionsIn, FolderOut, OptionsIn, PendingOut, SingleIn, SingleOut
from .submit import Options, Submitted, submit

KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of up to 255 characters that identifies this upload. A repeated call with the same "
    "content returns the same analysis instead of creating a second one; with other content the response is 422.",
)
PREFER = OpenApiParameter(
    "Prefer",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="`respond-async` returns 202 at once; `wait=N` waits at most N seconds (RFC 7240).",
)
EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string", "description": "JSON."}}}
PENDING = OpenApiResponse(PendingOut, "Stored and queued. Poll the address in `Location` for the result.")


def require_length(request: Request) -> None:
    """Refuse a body of unknown length. Middleware refuses one that is too long."""
    if not request.META.get("CONTENT_LENGTH") and "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", ""):
        raise errors.Problem("length_required", "Send a Content-Length; chunked uploads are not supported.")


def files_of(request: Request, field: str, most: int) -> list[UploadedFile]:
    """The files sent in ``field``, at least one and at most ``most``.

    Raises :class:`errors.Problem`, or ``AuthenticationFailed`` if the caller lost access while the files were sent.
    """
    files = request.FILES.getlist(field)
    recheck_authentication(request)
    if not files:
        detail = f"The multipart field “{field}” contains no file."
        problem = {"field": field, "code": "required", "detail": detail}
        raise errors.Problem("invalid_file", detail, errors=[], fields=[problem])
    if len(files) > most:
        raise errors.too_large(f"A call can carry at most {most} file{'s' if most > 1 else ''}.", most, "files")
    return files


class Upload(APIView):
    """Base of the prediction calls."""

    parser_classes = [FormParser]
    throttle_classes = [AnonymousThrottle, AccountThrottle, UploadThrottle]
    is_folder = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        require_length(request)
        super().initial(request, *args, **kwargs)

    def submit(self, request: Request) -> Submitted:
        if self.is_folder:
            files = files_of(request, "files", settings.UPLOAD_MAX_FILES)
        else:
            files = files_of(request, "file", 1)
        fields = (FolderOptionsIn if self.is_folder else OptionsIn)(data=request.data)
        fields.is_valid(raise_exception=True)
        key = request.headers.get("Idempotency-Key", "").strip()
        if len(key) > 255:
            raise errors.invalid("Idempotency-Key", "An idempotency key has at most 255 characters.")
        return submit(
            person(request),
            files,
            Options(*fields.options(), fields.validated_data.get("all_pages", False)),
            is_folder=self.is_folder,
            key=key,
        )


@extend_schema(tags=["Predict"], parameters=[KEY, PREFER])
class Single(Upload):
    @extend_schema(
        operation_id="predict_single",
        summary="Classify one image",
        description="Stores the image as a slide of a new case, analyses it in the background and waits for the "
        "result. The response is 202 if the result takes longer than the server waits. Closing the connection "
        "does not stop the analysis: the case is in the history.\n\n"
        "If the same bytes were analysed before with the same model, settings and runtime, the stored result is "
        "returned (`cached`).",
        request={"multipart/form-data": SingleIn},
        responses={200: SingleOut, 202: PENDING},
    )
    def post(self, request: Request) -> HttpResponseBase:
        return answers.waited(request, self.submit(request), is_folder=False)


@extend_schema(tags=["Predict"], parameters=[KEY, PREFER])
class Folder(Upload):
    is_folder = True

    @extend_schema(
        operation_id="predict_folder",
        summary="Classify several images as one case",
        description="Each image gets its own result, and the case result is the mean of their calibrated "
        "probabilities. Files that can't be used are listed in `errors`; the others are analysed. If no file can be "
        "used, the response is 400 with the same list.",
        request={"multipart/form-data": FolderIn},
        responses={200: FolderOut, 202: PENDING},
    )
    def post(self, request: Request) -> HttpResponseBase:
        return answers.waited(request, self.submit(request), is_folder=True)


@extend_schema(tags=["Predict"], parameters=[KEY])
class SingleStream(Upload):
    @extend_schema(
        operation_id="predict_single_stream",
        summary="Classify one image, with progress",
        description="Server-sent events, each a line `data: {json}`:\n\n"
        "- `start`: `id`, `case`, `total` patches, `result_url`\n"
        "- `progress`: `current`, `total`, `percentage`, `message`\n"
        "- `complete`: `result`, the response of `POST /predict/single`\n"
        "- `error`: `code`, `message`\n\n"
        "Lines that begin with a colon keep the connection open. If the server is busy, the response is 202 "
        "with the address of the result in `Location`.",
        request={"multipart/form-data": SingleIn},
        responses={
            (200, "text/event-stream"): OpenApiResponse(EVENT, "Events until the result is available."),
            (202, "application/json"): PENDING,
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        submitted = self.submit(request)
        pk = submitted.analyses[0].pk
        body = answers.pending_body(request, submitted, is_folder=False)
        # Acquired last: from here on, the stream releases it.
        held = ExitStack()
        try:
            held.enter_context(THREADS.hold(person(request).pk, optional=True))
        except CapacityExceeded:
            return answers.pending(request, submitted, is_folder=False)
        start = {"type": "start", "message": "The image was stored.", **body}
        events = streams.follow(
            lambda: answers.load(pk),
            start,
            _progress,
            lambda analysis: _end(request, analysis, submitted.cached),
        )
        answer = sse.response(sse.Stream(held, events))
        if submitted.replayed:
            answer["Idempotent-Replayed"] = "true"
        return answer


def _progress(analysis: Analysis) -> streams.Event:
    now = results.progress([analysis])
    if now["ahead"]:
        message = f"{now['ahead']} other analyses are ahead in the queue."
    elif analysis.state == State.QUEUED:
        message = "Waiting for a worker."
    else:
        message = f"Analysed {now['current']} of {now['total']} patches."
    return {"type": "progress", **now, "message": message}


def _end(request: Request, analysis: Analysis, cached: bool) -> streams.Event:
    try:
        recheck_authentication(request)
    except AuthenticationFailed as refused:
        return {"type": "error", "code": refused.get_codes(), "message": str(refused)}
    if analysis.state == State.FAILED:
        problem = results.failure(analysis)
        return {"type": "error", "code": problem.code, "message": problem.sentence}
    return {"type": "complete", "result": results.single(request, analysis, cached)}
