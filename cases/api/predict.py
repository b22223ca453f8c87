"""The prediction calls, as upstream's clients know them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.views import APIView

from cases.limits.concurrency import ConcurrencySlot, Kind
from cases.services import event_stream as sse
from inference.models import Analysis, State

from . import answers, errors, results, streams
from .authentication import look_again, person
from .common import AccountThrottle, AnonymousThrottle, FormParser, UploadThrottle
from .serializers import FolderIn, FolderOut, OptionsIn, PendingOut, SingleIn, SingleOut
from .submit import Options, Submitted, submit

KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of up to 255 characters that you choose for this upload. Sent again with the same "
    "content it finds the same analysis instead of making a second one; with other content it answers 422.",
)
PREFER = OpenApiParameter(
    "Prefer",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="`respond-async` answers 202 at once; `wait=N` waits at most N seconds (RFC 7240).",
)
EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string", "description": "JSON."}}}
PENDING = OpenApiResponse(PendingOut, "Stored and queued. Ask the address in `Location` for the result.")


def require_length(request: Request) -> None:
    """Refuse a body of unknown length; one that is too long is refused before any view sees it."""
    if not request.META.get("CONTENT_LENGTH") and "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", ""):
        raise errors.Problem("length_required", "Send a Content-Length; chunked uploads are not read.")


def files_of(request: Request, field: str, most: int) -> list[UploadedFile]:
    """The files sent in a field, at least one, of somebody who still may send them when they are here.
    Raises :class:`errors.Problem` and AuthenticationFailed."""
    files = request.FILES.getlist(field)
    look_again(request)
    if not files:
        detail = f"No file was sent in the multipart field “{field}”."
        problem = {"field": field, "code": "required", "detail": detail}
        raise errors.Problem("invalid_file", detail, errors=[], fields=[problem])
    if len(files) > most:
        raise errors.too_large(f"At most {most} file{'s' if most > 1 else ''} a call.", most, "files")
    return files


class Upload(APIView):
    """What the prediction calls have in common."""

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
        fields = OptionsIn(data=request.data)
        fields.is_valid(raise_exception=True)
        key = request.headers.get("Idempotency-Key", "").strip()
        if len(key) > 255:
            raise errors.invalid("Idempotency-Key", "An idempotency key has at most 255 characters.")
        return submit(person(request), files, Options(*fields.options()), is_folder=self.is_folder, key=key)


@extend_schema(tags=["Predict"], parameters=[KEY, PREFER])
class Single(Upload):
    @extend_schema(
        operation_id="predict_single",
        summary="Classify one image",
        description="Stores the image as a slide of a new case, analyses it in the background and waits for the "
        "result. Answers 202 where the result takes longer than the server waits. Closing the connection loses "
        "nothing: the case is in the history.\n\n"
        "The same bytes with the same model, settings and runtime are answered from the record (`cached`).",
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
        description="Each image is judged by itself and all together by the mean of their calibrated "
        "probabilities. Files that can't be used are listed in `errors` and do not stop the others; where none "
        "can be used the answer is 400 with the same list.",
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
        "- `complete`: `result`, as `POST /predict/single` answers it\n"
        "- `error`: `code`, `message`\n\n"
        "Lines that begin with a colon only keep the connection open. Where too many streams are open already "
        "the answer is 202 and the result is asked for at `Location`.",
        request={"multipart/form-data": SingleIn},
        responses={
            (200, "text/event-stream"): OpenApiResponse(EVENT, "Events until the result is there."),
            (202, "application/json"): PENDING,
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        submitted = self.submit(request)
        pk = submitted.analyses[0].pk
        body = answers.pending_body(request, submitted, is_folder=False)
        # Taken when nothing can fail any more before the answer has it.
        turn = ConcurrencySlot(person(request), Kind.WAIT)
        if not turn.taken:
            return answers.pending(request, submitted, is_folder=False)
        start = {"type": "start", "message": "The image was stored.", **body}
        events = streams.follow(
            lambda: answers.load(pk),
            start,
            _progress,
            lambda analysis: _end(request, analysis, submitted.cached),
        )
        answer = sse.response(sse.Stream(turn, events))
        if submitted.replayed:
            answer["Idempotent-Replayed"] = "true"
        return answer


def _progress(analysis: Analysis) -> streams.Event:
    now = results.progress([analysis])
    if now["ahead"]:
        message = f"Waiting behind {now['ahead']} other analyses."
    elif analysis.state == State.QUEUED:
        message = "Waiting for a worker."
    else:
        message = f"Analysed {now['current']} of {now['total']} patches."
    return {"type": "progress", **now, "message": message}


def _end(request: Request, analysis: Analysis, cached: bool) -> streams.Event:
    try:
        look_again(request)
    except AuthenticationFailed as refused:
        return {"type": "error", "code": refused.get_codes(), "message": str(refused)}
    if analysis.state == State.FAILED:
        problem = results.failure(analysis)
        return {"type": "error", "code": problem.code, "message": problem.sentence}
    return {"type": "complete", "result": results.single(request, analysis, cached)}
