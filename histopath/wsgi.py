"""Entry point of gunicorn."""

import os
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "histopath.settings")


class Request(WSGIRequest):
    """A request in UTF-8. Django would read its address with whichever of Python's codecs it names, and answer what
    can't be read so with nothing at all; :class:`cases.middleware.CharsetMiddleware` has words for it."""

    def __init__(self, environ: dict[str, Any]) -> None:
        try:
            super().__init__(environ)
        except ValueError:
            # The type of its body can't be read.
            super().__init__({**environ, "CONTENT_TYPE": ""})

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
