"""Serializer fields that take a JSON value only in its own type: a number is no text, and true is no number."""

from __future__ import annotations

from typing import Any, TypeVar

from django.core.validators import RegexValidator
from django.db import models
from rest_framework import serializers

M = TypeVar("M", bound=models.Model)


#: Within brackets: what is space or control, said so that regular expressions of Python, JavaScript and Rust agree.
BLANK = r"\s\x00-\x1f\x7f-\x9f\ufeff"


class Text(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Words(Text):
    """Text with something to read in it."""

    #: The only one that the field has: a schema names no more than one.
    pattern = f"[^{BLANK}]"
    complaint = "This field may not be blank."

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators.append(RegexValidator(self.pattern, self.complaint))


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
    """0 to 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0.0, max_value=1.0, **kwargs)


class ModelSerializer(serializers.ModelSerializer[M]):
    """REST framework's, with strict text."""

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: Text,
        models.TextField: Text,
    }
