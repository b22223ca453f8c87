"""Every address, asked as every kind of visitor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.accounts import tokens
from cases.models import Case, Report, Slide, User
from inference.models import Analysis, ModelVersion
from tests.factories import UserFactory

from .access import REVIEWERS_MAY, TABLE, VISITORS, Row, admin_names, names

#: Takes no notice of sessions, so no other site can use one.
SESSIONLESS = {"api:sign-in"}
ROWS = [
    pytest.param(name, row, id=f"{row.method} {name}")
    for name, rows in TABLE.items()
    for row in (rows if isinstance(rows, tuple) else (rows,))
]


def test_every_url_is_in_the_table() -> None:
    assert sorted(names()) == sorted(TABLE)


@pytest.fixture
def targets(case: Case, finished: Slide, alice: User, model: ModelVersion) -> dict[str, dict[str, Any]]:
    """What the addresses' parameters stand for."""
    return {
        "": {},
        "case": {"pk": case.pk},
        "slide": {"pk": finished.pk},
        "analysis": {"pk": Analysis.objects.get(slide=finished).pk},
        "model": {"pk": model.pk},
        "report": {"pk": Report.objects.create(case=case, author=alice, sha256="0" * 64).pk},
        "api_token": {"pk": tokens.create(alice, "to be revoked")[0].pk},
    }


@pytest.fixture
def visitors(alice: User, charlie: User, reviewer: User) -> dict[str, Callable[[], Client]]:
    def session(user: User) -> Callable[[], Client]:
        def sign_in() -> Client:
            client = Client()
            client.force_login(user)
            return client

        return sign_in

    cache.clear()
    _, plain = tokens.create(alice, "laboratory")
    old, old_plain = tokens.create(alice, "long ago")
    tokens.ApiToken.objects.filter(pk=old.pk).update(expiry=timezone.now() - timedelta(days=1))
    return {
        "anonymous": Client,
        "other": session(charlie),
        "owner": session(alice),
        "reviewer": session(reviewer),
        "staff": session(UserFactory(username="stan", is_staff=True)),
        "token": lambda: Client(headers={"Authorization": f"Token {plain}"}),
        "expired": lambda: Client(headers={"Authorization": f"Token {old_plain}"}),
    }


@pytest.fixture
def undone() -> Callable[[], Any]:
    """Whatever one visitor changes is undone before the next one asks."""

    class Undone(transaction.Atomic):
        def __exit__(self, *error: Any) -> None:
            transaction.set_rollback(True)
            super().__exit__(*error)

    return lambda: Undone(None, True, False)


def ask(client: Client, name: str, row: Row, targets: dict[str, dict[str, Any]]) -> Any:
    """The answer, read to its end, which closes the file that it may stream."""
    url = reverse(name, kwargs={**targets[row.target], **row.kwargs})
    is_json = name.startswith("api:") and name != "api:case-slides" and row.method in ("post", "patch")
    content = {"content_type": "application/json"} if is_json else {}
    answer = getattr(client, row.method)(url, row.data, headers=row.headers, **content)
    if answer.streaming:
        b"".join(answer)
    return answer


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_status(
    name: str,
    row: Row,
    targets: dict[str, dict[str, Any]],
    visitors: dict[str, Callable[[], Client]],
    undone: Callable[[], Any],
) -> None:
    found = []
    for visitor in VISITORS:
        with undone():
            found.append(ask(visitors[visitor](), name, row, targets).status_code)
    assert dict(zip(VISITORS, found, strict=True)) == dict(zip(VISITORS, row.expected, strict=True))


@pytest.mark.parametrize(
    ("name", "row"),
    [param for param in ROWS if param.values[1].method != "get" and param.values[0] not in SESSIONLESS],
)
def test_a_signed_in_browser_needs_the_csrf_token(
    name: str, row: Row, targets: dict[str, dict[str, Any]], alice: User
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert ask(client, name, row, targets).status_code == 403


def _admin_url(name: str, pattern: Any) -> str:
    parameters = set(pattern.pattern.converters) | set(
        getattr(pattern.pattern, "regex", pattern.pattern).groupindex
        if hasattr(getattr(pattern.pattern, "regex", None), "groupindex")
        else ()
    )
    values = {"object_id": "1", "content_type_id": "1", "app_label": "auth"}
    return reverse(name, kwargs={key: values.get(key, "1") for key in parameters})


# A person without permissions there may still sign out or change their own password.
MODEL_PAGES = ("_changelist", "_add", "_delete", "_history", "_change")
OPEN_ADMIN = {"admin:login", "admin:logout", "admin:jsi18n", "admin:password_change"}


def test_only_staff_can_open_the_admin(visitors: dict[str, Callable[[], Client]]) -> None:
    for visitor in ("anonymous", "other", "owner", "token", "expired"):
        client = visitors[visitor]()
        for name, pattern in admin_names():
            if name in OPEN_ADMIN:
                continue
            answer = client.get(_admin_url(name, pattern))
            assert answer.status_code == 302, (visitor, name, answer.status_code)
            assert "/login/" in answer["Location"], (visitor, name)


def test_staff_without_permissions_sees_no_model_in_the_admin(visitors: dict[str, Callable[[], Client]]) -> None:
    client = visitors["staff"]()
    assert client.get(reverse("admin:index")).status_code == 200
    for name, pattern in admin_names():
        if name.endswith(MODEL_PAGES) and name != "admin:password_change":
            assert client.get(_admin_url(name, pattern)).status_code in (302, 403), name


def test_a_reviewer_sees_only_the_clinical_models_in_the_admin(visitors: dict[str, Callable[[], Client]]) -> None:
    client = visitors["reviewer"]()
    for name, pattern in admin_names():
        if name.endswith(MODEL_PAGES) and name not in REVIEWERS_MAY | {"admin:password_change"}:
            assert client.get(_admin_url(name, pattern)).status_code in (302, 403), name


def test_lists_never_show_objects_of_others(
    finished: Slide, case: Case, visitors: dict[str, Callable[[], Client]]
) -> None:
    secret = case.title.encode()
    for name in ("cases:history", "cases:statistics"):
        assert secret not in visitors["other"]().get(reverse(name)).content, name
    exported = visitors["other"]().get(reverse("cases:export_history", kwargs={"form": "csv"}))
    assert secret not in b"".join(exported) and str(case.pk).encode() not in b"".join(exported)
    assert secret in visitors["owner"]().get(reverse("cases:history")).content
