"""Lists come in pages."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request

#: A page beyond the last is not found; past this bound a number is not even read.
LAST = 10**9


def counted(request: Request, name: str, default: int, most: int = LAST) -> int:
    """The query parameter as a number of 1 to ``most``; anything else, an empty one as well, raises ValidationError."""
    given = request.query_params.get(name)
    if given is None:
        return default
    # Python refuses to read very long numbers with an error of its own.
    if not (given.isascii() and given.isdigit() and len(given) <= 10 and 1 <= int(given) <= most):
        raise ValidationError({name: f"A number from 1 to {most}."})
    return int(given)


class Pages(PageNumberPagination):
    """REST framework's, but a page or size that is no such number is refused, not ignored;
    so is its word "last"."""

    page_size = 50
    page_size_query_param = "page_size"
    page_size_query_description = "Entries of a page, at most 200."
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        return counted(request, "page_size", self.page_size, self.max_page_size)

    def get_page_number(self, request: Request, paginator: Paginator) -> int:
        return counted(request, "page", 1)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            most = self.max_page_size if parameter["name"] == "page_size" else LAST
            parameter["schema"] |= {"minimum": 1, "maximum": most}
        return parameters
