"""Entry point of gunicorn."""

import os
import re
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.multipartparser import MultiPartParserError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "histopath.settings")


#: A parameter in pieces or with a character set of its own (RFC 2231), which libraries stumble over.
EXTENDED = re.compile(r"\*\d*\*?\s*=")


class Request(WSGIRequest):
    """A request in UTF-8. Django would read its address with whichever of Python's codecs it names, and answer what
    can't be read so with nothing at all; :class:`cases.web.middleware.CharsetMiddleware` has words for it."""

    def __init__(self, environ: dict[str, Any]) -> None:
        if EXTENDED.search(environ.get("HTTP_ACCEPT", "")):
            # No format that is answered in has such a parameter.
            environ = {**environ, "HTTP_ACCEPT": "*/*"}
        try:
            super().__init__(environ)
        except (ValueError, TypeError):
            # The type of its body can't be read.
            super().__init__({**environ, "CONTENT_TYPE": ""})

    def parse_file_upload(self, META: Any, post_data: Any) -> Any:  # noqa: N803
        try:
            return super().parse_file_upload(META, post_data)
        except TypeError as error:
            # Raised by Python for a parameter that is there whole and in pieces.
            raise MultiPartParserError("A part's header can't be read.") from error

    @property
    def encoding(self) -> str:
        return "utf-8"

    @encoding.setter
    def encoding(self, named: str) -> None:
        pass


class Handler(WSGIHandler):
    request_class = Request


django.setup(set_prefix=False)
application = Handler()
