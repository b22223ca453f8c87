"""Parts of an open page that change while its images are analysed.

A page polls one address. The entity tag of the answer holds a checksum of four characters for each part, so that
the server knows from ``If-None-Match`` which parts a browser shows. It renders only the others, and answers 304 when
there are none.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.template.loader import render_to_string

#: Characters of a part's checksum: three bytes in base64.
WIDTH = 4


@dataclass(frozen=True)
class Part:
    """A part of a page, the element with ``data-live="name"``. It is rendered again when ``version`` changes."""

    name: str
    version: tuple[Any, ...]
    template: str
    context: Callable[[], dict[str, Any]]

    @property
    def checksum(self) -> str:
        digest = hashlib.blake2b(repr((self.name, self.version)).encode(), digest_size=3).digest()
        return base64.urlsafe_b64encode(digest).decode()


def tag(parts: Iterable[Part]) -> str:
    """The entity tag of a page that shows these parts."""
    return f'"{"".join(part.checksum for part in parts)}"'


def changed(parts: list[Part], known: str) -> list[Part]:
    """The parts that a browser with the entity tag ``known`` does not show yet; all if it names none."""
    sums = known.removeprefix("W/").strip('"')
    shown = {sums[at : at + WIDTH] for at in range(0, len(sums), WIDTH)}
    return [part for part in parts if part.checksum not in shown]


def answer(request: HttpRequest, parts: list[Part], body: dict[str, Any]) -> HttpResponse:
    """``body`` and the parts that changed since the caller's last request, or 304 if none did.

    A part named ``list/item`` is left out where ``list`` is sent as a whole.
    """
    current = tag(parts)
    missing = changed(parts, request.headers.get("If-None-Match", ""))
    if not missing:
        return HttpResponseNotModified(headers={"ETag": current})
    whole = {part.name for part in missing}
    rendered = {
        part.name: render_to_string(part.template, part.context(), request=request)
        for part in missing
        if "/" not in part.name or part.name.split("/")[0] not in whole
    }
    return JsonResponse({**body, "parts": rendered}, headers={"ETag": current, "Cache-Control": "private, no-cache"})
