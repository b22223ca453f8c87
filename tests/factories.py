"""Factories that create database rows through the services."""

from __future__ import annotations

import base64
import hmac
import secrets
import time

import factory
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from django.core.files.uploadedfile import SimpleUploadedFile

from cases import services
from cases.images import synthetic
from cases.models import Case, Slide, User

PASSWORD = "correct horse battery staple"


#: Seconds for which an authenticator app shows a code.
PERIOD = 30


def add_totp(user: User) -> str:
    """Set up an authenticator app for the user; returns its secret."""
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    data = {"secret": get_adapter().encrypt(secret)}
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data=data)
    return secret


def add_recovery_codes(user: User) -> list[str]:
    """Recovery codes of the user, stored as allauth documents it for codes of another library."""
    codes = [f"{secrets.randbelow(10**8):08}" for _ in range(10)]
    data = {"migrated_codes": [get_adapter().encrypt(code) for code in codes]}
    Authenticator.objects.create(user=user, type=Authenticator.Type.RECOVERY_CODES, data=data)
    return codes


def code_of(secret: str) -> str:
    """The current code of an authenticator app, valid for some seconds more (RFC 6238)."""
    left = PERIOD - time.time() % PERIOD
    if left < 3:
        time.sleep(left)
    counter = int(time.time() // PERIOD).to_bytes(8, "big")
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


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
