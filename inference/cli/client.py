"""Client of the histopath API in one file, without dependencies. Needs Python 3.11 or later; copy it where you need it.

    client = Client("https://histopath.example.org", token)
    result = client.predict("field.png")
    print(result["verdict"], result["probabilities"]["malignant"])

Uploads carry an idempotency key, so a retry after a lost connection returns the same analysis. Every error response is
raised as :class:`ApiError` with a ``code`` listed in docs/api.md.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import mimetypes
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

Verdict = Literal["benign", "malignant", "indeterminate", "out_of_domain"]
File = str | PathLike[str] | tuple[str, bytes]
CHUNK = 1 << 16


class Probabilities(TypedDict):
    benign: float
    malignant: float


class Thresholds(TypedDict):
    low: float
    high: float


class PatchBreakdown(TypedDict):
    benign_patches: int
    malignant_patches: int


class Model(TypedDict):
    name: str
    version: str
    sha256: str
    runtime: str
    calibrated: bool


class FileError(TypedDict):
    filename: str
    code: str
    reason: str


class Single(TypedDict):
    """The result of one image."""

    prediction: Verdict
    confidence: float
    probabilities: Probabilities
    num_patches: int
    patch_breakdown: PatchBreakdown
    processing_time_seconds: float
    tissue_patches: int
    empty_patches: int
    id: str
    case: str
    slide: str
    filename: str
    verdict: Verdict
    raw_probability: float | None
    cut_points: Thresholds
    warnings: list[str]
    overlap: float
    magnification: str
    model: Model
    cached: bool
    patch_map_url: str | None
    report_url: str


class Aggregate(TypedDict):
    prediction: Verdict
    confidence: float
    probabilities: Probabilities
    verdict: Verdict
    cut_points: Thresholds


class ImageBreakdown(TypedDict):
    benign_images: int
    malignant_images: int
    indeterminate_images: int
    excluded_images: int


class Reason(TypedDict):
    code: str
    message: str


class Folder(TypedDict):
    """The result of several images as one case."""

    aggregated_diagnosis: Aggregate
    num_images: int
    image_breakdown: ImageBreakdown
    review_recommended: bool
    reasons: list[Reason]
    individual_predictions: list[Single]
    processing_time_seconds: float
    errors: list[FileError]
    id: str
    case: str
    verdict: Verdict
    warnings: list[str]
    model: Model
    cached: bool
    report_url: str


class Pending(TypedDict):
    """The progress of an analysis that has not ended."""

    id: str
    case: str
    state: Literal["queued", "running"]
    current: int
    total: int
    percentage: float
    ahead: int
    result_url: str
    errors: list[FileError]


class Patch(TypedDict):
    index: int
    x: int
    y: int
    malignant: float | None
    tissue: float | None


class Patches(TypedDict):
    analysis: str
    width: int
    height: int
    patch_size: int
    overlap: float
    patches: list[Patch]


class Event(TypedDict):
    """One event of a stream."""

    type: Literal["start", "progress", "complete", "error"]
    current: NotRequired[int]
    total: NotRequired[int]
    percentage: NotRequired[float]
    message: NotRequired[str]
    code: NotRequired[str]
    result: NotRequired[Single]


#: Attempts while the server is busy (429), and the longest Retry-After in seconds for which the client waits.
BUSY_TRIES, BUSY_SECONDS = 10, 5.0
#: Seconds for which a call is retried while the server still processes an earlier attempt (409), and the longest pause
#: between retries. The server discards an interrupted attempt after four minutes.
HELD_SECONDS, HELD_PAUSE = 360.0, 30.0
#: Timeout in seconds of an upload, which is answered when all images have been checked.
UPLOAD_SECONDS = 900.0


class ApiError(Exception):
    """An error response. ``code`` is stable; ``problem`` is the whole response body (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.code = str(problem.get("code", "error"))
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(str(problem.get("detail") or problem.get("title") or f"status {status}"))


class Client:
    """Client for one server and token. Each call opens its own connection, so threads may share a client.

    Calls raise :class:`ApiError` for error responses, and OSError if the connection fails ``retries`` + 1 times.
    """

    def __init__(self, url: str, token: str = "", timeout: float = 60.0, retries: int = 2) -> None:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https URL")
        self._parts = parts
        self._token = token
        self._timeout = timeout
        self._retries = retries

    # Predictions

    def predict(
        self,
        file: File,
        *,
        overlap: float | None = None,
        magnification: str | None = None,
        progress: Callable[[Pending], None] | None = None,
        key: str | None = None,
    ) -> Single:
        """Classify one image and wait for the result."""
        return cast(Single, self._predict("single", "file", [file], overlap, magnification, progress, key))

    def predict_folder(
        self,
        files: Sequence[File],
        *,
        overlap: float | None = None,
        magnification: str | None = None,
        progress: Callable[[Pending], None] | None = None,
        key: str | None = None,
        all_pages: bool = False,
    ) -> Folder:
        """Classify several images as one case and wait for the result; ``all_pages`` takes every page of a file."""
        return cast(Folder, self._predict("folder", "files", files, overlap, magnification, progress, key, all_pages))

    def stream(self, file: File, *, overlap: float | None = None, magnification: str | None = None) -> Iterator[Event]:
        """Classify one image and follow its progress; the last event is ``complete`` or ``error``."""
        body = _Form([("file", file)], _options(overlap, magnification))
        connection, response = self._open("POST", "/predict/single/stream", body)
        try:
            self._raise(response)
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            connection.close()

    def _predict(
        self,
        mode: str,
        field: str,
        files: Iterable[File],
        overlap: float | None,
        magnification: str | None,
        progress: Callable[[Pending], None] | None,
        key: str | None,
        all_pages: bool = False,
    ) -> Any:
        options = {**_options(overlap, magnification), **({"all_pages": "true"} if all_pages else {})}
        body = _Form([(field, file) for file in files], options)
        headers = {"Idempotency-Key": key or str(uuid.uuid4()), "Prefer": "respond-async"}
        status, answer = self._call("POST", f"/predict/{mode}", body, headers)
        address = ""
        while status == 202:
            if progress:
                progress(answer)
            address = answer["result_url"]
            time.sleep(0.5)
            status, answer = self._call("GET", urllib.parse.urlsplit(address).path)
        return answer

    # Resources

    def get(self, path: str, **query: Any) -> Any:
        """GET any path under ``/api/v1/``, for example ``get("me")`` or ``get("cases", verdict="malignant")``."""
        return self._call("GET", f"/api/v1/{path}{_query(query)}")[1]

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All entries of a paginated list."""
        page: Any = self.get(path, **query)
        while True:
            yield from page["results"]
            if not page["next"]:
                return
            rest = urllib.parse.urlsplit(page["next"])
            page = self._call("GET", f"{rest.path}?{rest.query}")[1]

    def create_case(self, title: str, **fields: Any) -> dict[str, Any]:
        """Create a case. ``fields``: ``patient``, ``notes``, ``magnification``, ``overlap``, ``tags``."""
        return cast(dict[str, Any], self._call("POST", "/api/v1/cases", {"title": title, **fields})[1])

    def change_case(self, case: str, **fields: Any) -> dict[str, Any]:
        return cast(dict[str, Any], self._call("PATCH", f"/api/v1/cases/{case}", fields)[1])

    def delete_case(self, case: str) -> None:
        self._call("DELETE", f"/api/v1/cases/{case}")

    def add_slides(self, case: str, files: Sequence[File]) -> dict[str, Any]:
        """Add images to a case. Returns the created ``slides``, and ``errors`` for files that were not accepted."""
        form = _Form([("files", file) for file in files], {})
        return cast(dict[str, Any], self._call("POST", f"/api/v1/cases/{case}/slides", form)[1])

    def case_result(self, case: str, progress: Callable[[Pending], None] | None = None) -> Folder:
        """Wait until all slides of the case are analysed, and return the case result."""
        while True:
            status, answer = self._call("GET", f"/api/v1/cases/{case}/result")
            if status == 200:
                return cast(Folder, answer)
            if progress:
                progress(answer)
            time.sleep(0.5)

    def patches(self, analysis: str) -> Patches:
        return cast(Patches, self.get(f"analyses/{analysis}/patches"))

    def patch_map(self, analysis: str) -> bytes:
        """The patch map as a PNG file."""
        return cast(bytes, self.get(f"analyses/{analysis}/map"))

    def sign_review(self, case: str, reading: str, subtype: str = "", comment: str = "") -> dict[str, Any]:
        body = {"reading": reading, "subtype": subtype, "comment": comment}
        return cast(dict[str, Any], self._call("POST", f"/api/v1/cases/{case}/reviews", body)[1])

    def health(self) -> dict[str, Any]:
        """The health report, also of an unhealthy server."""
        try:
            return cast(dict[str, Any], self._call("GET", "/health")[1])
        except ApiError as error:
            if "checks" in error.problem:
                return dict(error.problem)
            raise

    @classmethod
    def sign_in(cls, url: str, username: str, password: str, code: str = "", name: str = "client") -> Client:
        """Sign in with a password (and one-time code) to create a token; returns a client that uses it."""
        body = {"username": username, "password": password, "code": code, "name": name}
        token = cls(url)._call("POST", "/api/v1/sign-in", body)[1]["token"]
        return cls(url, token)

    # Transport

    def _call(
        self, method: str, path: str, body: _Form | dict[str, Any] | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:
        started, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                return self._call_once(method, path, body, headers)
            except ApiError as error:
                pause = error.retry_after or 0.0
                if error.status == 409:
                    # The connection was lost earlier, and the server still processes that attempt.
                    worth_it = time.monotonic() - started < HELD_SECONDS
                    wait = min(pause * 2 ** (tries - 1), HELD_PAUSE)
                else:
                    # Nothing was stored. A full queue has a longer Retry-After, and the caller decides.
                    worth_it, wait = error.status == 429 and tries < BUSY_TRIES, pause
                if not worth_it or not 0 < pause <= BUSY_SECONDS:
                    raise
                time.sleep(wait)

    def _call_once(
        self, method: str, path: str, body: _Form | dict[str, Any] | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:
        safe = method == "GET" or "Idempotency-Key" in headers
        for attempt in range(self._retries + 1):
            try:
                connection, response = self._open(method, path, body, headers)
                try:
                    self._raise(response)
                    content = response.read()
                finally:
                    connection.close()
            except (OSError, http.client.HTTPException):
                if not safe or attempt == self._retries:
                    raise
                time.sleep(2.0**attempt)
            else:
                return response.status, self._read(response, content)
        raise AssertionError("unreachable")

    def _open(
        self, method: str, path: str, body: _Form | dict[str, Any] | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        sent = {"Accept": "application/json", **headers}
        if self._token:
            sent["Authorization"] = f"Token {self._token}"
        content: Any = None
        if isinstance(body, _Form):
            content, more = body.chunks(), body.headers()
            sent.update(more)
        elif body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            # The server may send an error response before it has read the whole upload.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._parts.path.rstrip("/") + path, content, sent)
            if isinstance(body, _Form) and connection.sock:
                connection.sock.settimeout(max(self._timeout, UPLOAD_SECONDS))
            return connection, connection.getresponse()
        except BaseException:  # raised again; the connection is of no further use
            connection.close()
            raise

    @staticmethod
    def _read(response: http.client.HTTPResponse, content: bytes) -> Any:
        """The decoded value of a JSON response, otherwise the bytes."""
        kind = (response.headers["Content-Type"] or "").split(";")[0]
        if kind == "text/html":
            raise ApiError(response.status, {"title": "The response is an HTML page, not an API response."})
        if kind != "application/json":
            return content
        try:
            return json.loads(content)
        except ValueError as error:
            raise ApiError(response.status, {"title": "The response is incomplete."}) from error

    @staticmethod
    def _raise(response: http.client.HTTPResponse) -> None:
        if response.status < 300:
            return
        if response.status < 400:
            detail = (
                f"The server redirects to {response.headers['Location']}. Nothing was sent there; use that URL instead."
            )
            raise ApiError(response.status, {"title": response.reason, "detail": detail})
        try:
            problem = json.loads(response.read())
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {"title": response.reason}
        after = response.headers["Retry-After"]
        raise ApiError(response.status, problem, float(after) if after and after.isdigit() else None)


class _Form:
    """A multipart form whose files are read from disk while it is sent."""

    def __init__(self, files: Sequence[tuple[str, File]], fields: Mapping[str, str]) -> None:
        self._boundary = uuid.uuid4().hex
        self._parts: list[tuple[bytes, Path | bytes]] = []
        for name, value in fields.items():
            self._parts.append((self._head(f'name="{name}"'), value.encode()))
        for name, file in files:
            filename, content = (file[0], file[1]) if isinstance(file, tuple) else (Path(file).name, Path(file))
            # Names of files need not be text.
            filename = filename.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            quoted = filename.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
            kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
            self._parts.append((self._head(f'name="{name}"; filename="{quoted}"', kind), content))
        self._tail = f"--{self._boundary}--\r\n".encode()

    def _head(self, disposition: str, kind: str = "") -> bytes:
        lines = [f"--{self._boundary}", f"Content-Disposition: form-data; {disposition}"]
        if kind:
            lines.append(f"Content-Type: {kind}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def headers(self) -> dict[str, str]:
        sizes = [
            len(head) + (len(content) if isinstance(content, bytes) else content.stat().st_size) + 2
            for head, content in self._parts
        ]
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(sum(sizes) + len(self._tail)),
        }

    def chunks(self) -> Iterator[bytes]:
        for head, content in self._parts:
            yield head
            if isinstance(content, bytes):
                yield content
            else:
                with content.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        yield chunk
            yield b"\r\n"
        yield self._tail


def _options(overlap: float | None, magnification: str | None) -> dict[str, str]:
    options = {"overlap": overlap, "magnification": magnification}
    return {name: str(value) for name, value in options.items() if value is not None}


def _query(query: Mapping[str, Any]) -> str:
    return f"?{urllib.parse.urlencode(query)}" if query else ""
