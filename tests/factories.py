"""Factories that create database rows through the services."""

from __future__ import annotations

import time

import factory
from allauth.mfa import app_settings
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.files.uploadedfile import SimpleUploadedFile

from cases import services
from cases.images import synthetic
from cases.models import Case, Slide, User

PASSWORD = "correct horse battery staple"


def code_of(secret: str) -> str:
    """The current code of an authenticator app."""
    left = app_settings.TOTP_PERIOD - time.time() % app_settings.TOTP_PERIOD
    if left < 3:
        time.sleep(left)
    return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"person{n}")
    email = factory.LazyAttribute(lambda o: f"{o.username}@example.org")
    password = factory.django.Password(PASSWORD)


class CaseFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Case

    owner = factory.SubFactory(UserFactory)
    title = factory.Sequence(lambda n: f"Case {n}")


def upload(name: str = "field.png", content: bytes | None = None) -> SimpleUploadedFile:
    """A valid PNG, by default of 700x460 pixels."""
    return SimpleUploadedFile(name, synthetic.uploads()[0].read() if content is None else content)


def add_slide(case: Case, name: str = "field.png") -> Slide:
    """A stored slide with a queued analysis."""
    slides, rejected = services.add_slides(case, [upload(name)])
    assert not rejected
    return slides[0]
