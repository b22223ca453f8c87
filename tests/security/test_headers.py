"""What every answer tells the browser, and the settings of production."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from cases.models import Case, Slide, User
from tests.conftest import ROOT

As = Callable[[User], Client]
PAGES = [
    "cases:home",
    "cases:history",
    "cases:new",
    "cases:help",
    "account_login",
    "mfa_index",
    "api:me",
    "docs",
    "health",
]


def directives(policy: str) -> dict[str, list[str]]:
    parts = [part.split() for part in policy.split(";") if part.strip()]
    return {part[0]: part[1:] for part in parts}


@pytest.mark.parametrize("name", PAGES)
def test_headers_of_every_page(name: str, as_user: As, alice: User) -> None:
    answer = as_user(alice).get(reverse(name))
    policy = directives(answer["Content-Security-Policy"])
    assert policy["default-src"] == ["'none'"] and policy["base-uri"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    # Only the API's documentation, which shows nobody's data, may style inline.
    assert policy["style-src"] == ["'self'"] or (name == "docs" and "'unsafe-inline'" in policy["style-src"])
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]


@pytest.mark.parametrize(
    "name",
    ["cases:case", "cases:image", "cases:thumbnail", "cases:view", "cases:slide", "cases:trail", "cases:progress"],
)
def test_private_pages_are_not_cached(name: str, as_user: As, alice: User, slide: Slide) -> None:
    pk = slide.case_id if name in ("cases:case", "cases:trail", "cases:progress") else slide.pk
    answer = as_user(alice).get(reverse(name, args=[pk]))
    if answer.streaming:
        b"".join(answer)
    assert {"private", "no-store"} <= set(re.split(r",\s*", answer["Cache-Control"]))


def test_pages_have_no_inline_scripts_or_styles(as_user: As, alice: User, slide: Slide) -> None:
    client = as_user(alice)
    paths = [reverse(name) for name in ("cases:home", "cases:history", "cases:new", "cases:help", "cases:preferences")]
    for path in [*paths, reverse("cases:case", args=[slide.case_id]), reverse("cases:slide", args=[slide.pk])]:
        page = client.get(path, follow=True).content.decode()
        assert not re.search(r"<script(?![^>]*(\bsrc=|type=.application/json.))[^>]*>", page), path
        assert not re.search(r"\son[a-z]+=", page), path
        assert not re.search(r"<style|\sstyle=", page), path


def test_user_input_is_escaped(as_user: As, alice: User, case: Case) -> None:
    Case.objects.filter(pk=case.pk).update(title="<script>alert(1)</script>", notes="<img src=x>", patient='"><b>')
    client = as_user(alice)
    for path in (
        reverse("cases:case", args=[case.pk]),
        reverse("cases:history"),
        reverse("cases:trail", args=[case.pk]),
    ):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page and "<img src=x" not in page and '"><b>' not in page


def production(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "VIRTUAL_ENV")}
    probe = (
        "import django; django.setup(); from django.conf import settings as s; "
        "print(s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_SSL_REDIRECT, "
        "s.SECURE_HSTS_SECONDS, s.DEBUG)"
    )
    return subprocess.run(
        [sys.executable, "-c", probe],
        cwd=ROOT,
        env={**clean, "DJANGO_SETTINGS_MODULE": "histopath.settings", "VAR_DIR": str(tmp_path), "DEBUG": "off",
             "HTTPS": "on", "ALLOWED_HOSTS": "example.org", **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_production_settings_are_strict(tmp_path: Path) -> None:
    done = production(tmp_path, SECRET_KEY="a-real-one-" + "k" * 50)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["__Host-session", "True", "True", "True", "31536000", "False"]


@pytest.mark.parametrize("key", ["tiny-k3y", "development-only-" + "0" * 40, "django-insecure-" + "x" * 50])
def test_a_weak_secret_stops_the_start(key: str, tmp_path: Path) -> None:
    done = production(tmp_path, SECRET_KEY=key)
    assert done.returncode != 0 and "SECRET_KEY" in done.stderr
    assert key not in done.stderr
