"""How the API reads uploads."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import MultiPartParser


class FormParser(MultiPartParser):
    """REST framework's, but a part's header that can't be read is the sender's mistake."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except TypeError as error:
            # Raised by Python for a parameter that is there whole and in pieces.
            raise ParseError("A part's header can't be read.") from error
