"""allauth's pages use the wording of the other pages, from ``cases/locale``."""

from __future__ import annotations

import ast
import gettext
import re

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

LOCALE = settings.BASE_DIR / "cases" / "locale"
ENTRY = re.compile(r'^(?:msgctxt ".*"\n)?msgid ((?:".*"\n)+)msgstr ((?:".*"\n)+)', re.MULTILINE)


def joined(lines: str) -> str:
    return "".join(ast.literal_eval(line) for line in lines.splitlines())


def test_the_compiled_texts_are_those_of_the_source() -> None:
    source = (LOCALE / "en" / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")
    texts = {joined(own): joined(ours) for own, ours in ENTRY.findall(source)}
    compiled = gettext.translation("django", LOCALE, ["en"])
    assert len(texts) > 100
    stale = [own for own, ours in texts.items() if own not in ("", "Login") and compiled.gettext(own) != ours]
    assert not stale, "run manage.py compilemessages"


@pytest.mark.django_db
def test_account_pages_use_them() -> None:
    page = Client().get(reverse("account_login")).content.decode()
    assert "Username or e-mail" in page and "Keep me signed in" in page and "Sign In" not in page
    page = Client().post(reverse("account_login"), {"login": "nobody", "password": "wrong"}).content.decode()
    assert "Wrong username or password." in page
    assert "Reset password" in Client().get(reverse("account_reset_password")).content.decode()
