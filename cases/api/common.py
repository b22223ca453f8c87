"""What the API's views share: rate limits, upload parsing, content negotiation, pagination and strict fields.

Each class changes one behaviour of REST framework; the docstring says which and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.paginator import Paginator
from django.core.validators import RegexValidator
from django.db import models
from rest_framework import serializers
from rest_framework.exceptions import NotAcceptable, ParseError, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import PageNumberPagination
from rest_framework.parsers import MultiPartParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView

M = TypeVar("M", bound=models.Model)


# Rate limits. The rates are settings; Retry-After of a 429 says when to call again.


class AnonymousThrottle(AnonRateThrottle):
    """Calls without an account, by network address."""


class AccountThrottle(UserRateThrottle):
    """All calls of one account."""

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        return super().get_cache_key(request, view) if request.user.is_authenticated else None


class UploadThrottle(AccountThrottle):
    """Calls of one account that send images."""

    scope = "predict"


class SignInThrottle(AnonRateThrottle):
    """Attempts to exchange a password for a token, by network address."""

    scope = "sign_in"


# Requests and responses.


class FormParser(MultiPartParser):
    """Answers 400, not 500, if a part's header cannot be parsed."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except TypeError as error:
            # Python's e-mail parser raises it if a header parameter occurs both whole and in sections.
            raise ParseError("The header of a part can't be parsed.") from error


class LenientNegotiation(DefaultContentNegotiation):
    """Falls back to the default format instead of answering 406.

    The upstream demo ignored ``Accept``, and its browser clients send ``text/html`` or ``text/event-stream``.
    """

    def select_renderer(  # type: ignore[override]  # the stubs type the renderers too loosely
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], str(renderers[0].media_type)


#: Larger page numbers are refused unread: Python raises an error of its own for very long numbers.
LAST_PAGE = 10**9


def positive_number(request: Request, name: str, default: int, maximum: int = LAST_PAGE) -> int:
    """A query parameter as a number from 1 to ``maximum``; ``default`` if absent. Raises ``ValidationError``."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= 10 and 1 <= int(given) <= maximum):
        raise ValidationError({name: f"Enter a number from 1 to {maximum}."})
    return int(given)


class Pages(PageNumberPagination):
    """Refuses an invalid page or page size instead of ignoring it; "last" is not accepted as a page."""

    page_size = 50
    page_size_query_param = "page_size"
    page_size_query_description = "Entries per page, at most 200."
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        return positive_number(request, "page_size", self.page_size, self.max_page_size)

    def get_page_number(self, request: Request, paginator: Paginator) -> int:
        return positive_number(request, "page", 1)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            maximum = self.max_page_size if parameter["name"] == "page_size" else LAST_PAGE
            parameter["schema"] |= {"minimum": 1, "maximum": maximum}
        return parameters


# Serializer fields that accept a JSON value in its own type only: a number is not text, and true is not a number.

#: White space and control characters for a character class, written so that the regular expressions of Python,
#: JavaScript and Rust agree.
BLANK = r"\s\x00-\x1f\x7f-\x9f\ufeff"


class Text(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class NonBlankText(Text):
    """Text with at least one visible character."""

    #: The field's only validator pattern: an OpenAPI schema can name one.
    pattern = f"[^{BLANK}]"
    message = "This field may not be blank."

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators.append(RegexValidator(self.pattern, self.message))


class Number(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


class Count(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class Probability(serializers.FloatField):
    """A number from 0 to 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0.0, max_value=1.0, **kwargs)


# Not a docstring: the OpenAPI document would show it as the description of every resource.
class ModelSerializer(serializers.ModelSerializer[M]):  # uses the strict Text for text columns
    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: Text,
        models.TextField: Text,
    }
