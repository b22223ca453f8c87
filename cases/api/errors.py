"""Errors in one format at every address of the API: RFC 9457 problem details with a stable ``code``."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFilesSent,
)
from django.core.signals import got_request_exception
from django.db import DatabaseError, DataError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.views import set_rollback

from cases.images.intake import Rejected
from cases.images.serving import FileMissing
from cases.limits.quotas import CapacityExceeded
from cases.models.submissions import SubmissionExpired
from cases.services.outages import RETRY_SECONDS, STORAGE, is_outdated
from inference.registry import NoModel

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
API_PATHS = ("/predict", "/api", "/health", "/schema")

#: Every error code with its status and meaning. The documentation contains this table.
CODES: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request can't be parsed, for example because of invalid JSON"),
    "invalid": (400, "A value is missing or invalid; `fields` lists which"),
    "invalid_file": (400, "None of the files can be used; `errors` lists each file with the reason"),
    "not_authenticated": (401, "The request has no token and no session"),
    "token_invalid": (401, "The token is unknown or was revoked"),
    "token_expired": (401, "The token has expired; create a new one"),
    "sign_in_failed": (401, "Wrong username, password or one-time code"),
    "code_required": (401, "The account uses two-factor authentication; send the one-time code as well"),
    "permission_denied": (403, "This account does not have the permission"),
    "csrf_failed": (403, "A request with a session needs a CSRF token"),
    "not_found": (404, "The address or object does not exist, or you have no access to it"),
    "file_missing": (404, "The stored image is missing from the file store; ask the administrator"),
    "method_not_allowed": (405, "The address does not support this method; `Allow` lists those it does"),
    "conflict": (409, "The first call with this idempotency key is still being received, or this call was abandoned"),
    "changed": (409, "The object was changed or deleted during the call"),
    "not_finished": (409, "The analysis has no result yet"),
    "out_of_domain": (409, "The image is not H&E breast tissue, so there is no map"),
    "length_required": (411, "The request has no `Content-Length`"),
    "too_large": (413, "Too many files or bytes; `limit` is the maximum"),
    "unsupported_media_type": (415, "The address does not support the body's type or encoding"),
    "idempotency_mismatch": (422, "The idempotency key was used before with other content or settings"),
    "busy": (429, "The queue or the server is full; try again after `Retry-After` seconds"),
    "throttled": (429, "Too many calls; try again after `Retry-After` seconds"),
    "error": (500, "Server error; the cause is in the log"),
    "analysis_failed": (500, "The image was stored but could not be analysed; `detail` gives the reason"),
    "no_worker": (503, "No background worker is running"),
    "no_model": (503, "No model is active"),
    "model_unusable": (503, "The model file is missing, damaged or not the registered one"),
    "storage_failed": (503, "The file store is full or unavailable"),
    "database_unavailable": (503, "The database does not respond"),
    "unavailable": (503, "The application does not respond; sent by the proxy"),
}
_TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    411: "Length required",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not the same request",
    429: "Too many requests",
    500: "Server error",
    503: "Not available",
}
#: Codes for error responses of Django itself, which have none.
_CODE_OF_STATUS = {
    400: "malformed",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "throttled",
    503: "database_unavailable",
}


class Problem(exceptions.APIException):
    """An error response: a code of :data:`CODES`, a sentence, and further members."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        self.status_code = CODES[code][0]
        self.code = code
        self.sentence = detail
        self.headers = headers or {}
        self.extra = extra
        super().__init__(detail, code)


def invalid_files(rejected: Sequence[Rejected], detail: str | None = None) -> Problem:
    """400 if no file can be used; 503 if the server could not store any."""
    if all(problem.code == "storage" for problem in rejected):
        return unavailable("storage_failed", "The server could not store the files; try again later.")
    if all(problem.code == "error" for problem in rejected):
        names = ", ".join(problem.filename for problem in rejected)
        return Problem("error", f"{names}: could not be read because of an error on the server.")
    detail = detail or "; ".join(str(problem) for problem in rejected[:3])
    return Problem("invalid_file", detail, errors=[asdict(problem) for problem in rejected])


def invalid(field: str, detail: str) -> Problem:
    """400: one value is invalid."""
    return Problem("invalid", detail, fields=[{"field": field, "code": "invalid", "detail": detail}])


def too_large(detail: str, limit: int, unit: str) -> Problem:
    """413, with the maximum in ``limit`` and its ``unit`` (files or bytes)."""
    return Problem("too_large", detail, limit=limit, unit=unit)


def unavailable(code: str, detail: str) -> Problem:
    """503, with a time to try again."""
    return Problem(code, detail, headers={"Retry-After": str(RETRY_SECONDS)})


def response(code: str, detail: str, status: int | None = None, **extra: Any) -> HttpResponse:
    """A problem document as a response."""
    status = status or CODES[code][0]
    body = {
        "type": f"urn:histopath:problem:{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "code": code,
        "detail": detail,
        **extra,
    }
    answer = HttpResponse(json.dumps(body), content_type=CONTENT_TYPE, status=status)
    # The audit trail records views, and needs to know that this is an error.
    answer.problem = code  # type: ignore[attr-defined]  # a remark for the middleware
    return answer


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """REST framework's exception handler. None leaves the exception to Django."""
    problem = _problem_of(exc)
    if problem is None:
        return None
    set_rollback()
    answer = response(problem.code, problem.sentence, problem.status_code, **problem.extra)
    for name, value in problem.headers.items():
        answer[name] = value
    return answer


def _problem_of(exc: Exception) -> Problem | None:
    match exc:
        case Problem():
            return exc
        case exceptions.ValidationError():
            fields = list(_fields(exc.get_full_details()))
            detail = "; ".join(f"{f['field']}: {f['detail']}" if f["field"] else f["detail"] for f in fields[:3])
            return Problem("invalid", detail, fields=fields)
        case exceptions.Throttled():
            wait = math.ceil(getattr(exc, "wait", None) or 1)
            return Problem("throttled", f"Too many calls; try again in {wait} s.", headers={"Retry-After": str(wait)})
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            code = str(exc.detail.code)  # type: ignore[union-attr]  # these two have one detail
            code = code if code in CODES else "token_invalid"
            scheme = getattr(exc, "auth_header", None) or "Token"
            # The header carries the code because proxies pass nothing else of the response on.
            return Problem(code, str(exc.detail), headers={"WWW-Authenticate": f'{scheme} error="{code}"'})
        case exceptions.PermissionDenied():
            detail = str(exc.detail)
            return Problem("csrf_failed" if detail.startswith("CSRF") else "permission_denied", detail)
        case FileMissing():
            return Problem("file_missing", str(exc))
        case exceptions.NotFound() | Http404():
            return Problem("not_found", "It does not exist, or you have no access to it.")
        case PermissionDenied():
            return Problem("permission_denied", "This account does not have the permission.")
        case exceptions.APIException():
            code = _CODE_OF_STATUS.get(exc.status_code, "malformed")
            return Problem(code, str(exc.detail))
        case TooManyFilesSent():
            most = settings.UPLOAD_MAX_FILES
            return too_large(f"A call can carry at most {most} files.", most, "files")
        case RequestDataTooBig():
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            return too_large(f"The form fields, without the files, are larger than {most} bytes.", most, "bytes")
        case SuspiciousOperation():
            return Problem("malformed", "The request can't be parsed.")
        case RecursionError():
            return Problem("malformed", "The request is nested too deeply.")
        case CapacityExceeded():
            return Problem("busy", str(exc), headers={"Retry-After": str(exc.retry_after)})
        case SubmissionExpired():
            return Problem("conflict", str(exc))
        case NoModel():
            return unavailable("no_model", str(exc))
        case DataError():
            return Problem("malformed", "The request contains an unsupported character or value.")
        case _ if is_outdated(exc):
            log.warning("A row was changed or deleted in the meantime.", exc_info=exc)
            return Problem("changed", "The object was changed or deleted in the meantime; nothing was saved.")
        case DatabaseError():
            log.exception("The database failed.", exc_info=exc)
            return unavailable("database_unavailable", "The database does not respond; try again.")
        case OSError() if exc.errno in STORAGE:
            log.exception("The disk failed.", exc_info=exc)
            return unavailable("storage_failed", "The server's disk is full or unavailable; try again later.")
    return None


def _fields(details: Any, path: str = "") -> Any:
    """Flatten REST framework's nested error details into ``field``, ``code``, ``detail``."""
    if isinstance(details, dict) and set(details) == {"message", "code"}:
        yield {"field": path, "code": str(details["code"]), "detail": str(details["message"])}
    elif isinstance(details, dict):
        for name, inner in details.items():
            name = "" if name == "non_field_errors" else str(name)
            yield from _fields(inner, f"{path}.{name}".strip("."))
    elif isinstance(details, list):
        for inner in details:
            yield from _fields(inner, path)


def is_api_path(path: str) -> bool:
    return any(path == start or path.startswith(f"{start}/") for start in API_PATHS)


def _limit(status: int) -> dict[str, Any]:
    """The limit that a request exceeded which was refused before it was read."""
    return {"limit": settings.UPLOAD_MAX_REQUEST_BYTES, "unit": "bytes"} if status == 413 else {}


class ProblemMiddleware:
    """Converts errors from outside the API's views to problem details: unknown addresses, wrong methods, refused hosts,
    crashes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.get_response(request)
        kind = answer.get("Content-Type", "")
        if (
            answer.status_code < 400
            or not is_api_path(request.path)
            or kind.startswith((CONTENT_TYPE, "application/json"))
        ):
            return answer
        code = _CODE_OF_STATUS.get(answer.status_code, "error" if answer.status_code >= 500 else "malformed")
        better = response(code, f"{CODES[code][1]}.", answer.status_code, **_limit(answer.status_code))
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in answer:
                better[name] = answer[name]
        return better

    def process_exception(self, request: HttpRequest, exc: Exception) -> HttpResponse | None:
        if not is_api_path(request.path) or isinstance(exc, (Http404, PermissionDenied, SuspiciousOperation)):
            return None
        if (answer := exception_handler(exc, {})) and answer.status_code in (400, 409, 503):
            return answer
        got_request_exception.send(sender=type(self), request=request)
        log.error("%s %s failed.", request.method, request.path, exc_info=exc)
        return response("error", "Server error; the cause is in the log.")
