"""Tokens: made, shown once, used, expired, revoked; in the portal and by API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from cases.accounts import tokens
from cases.models import ApiToken, User
from tests.factories import PASSWORD, add_recovery_codes, add_totp, code_of

from .conftest import Api, problem_of

pytestmark = pytest.mark.django_db


def test_only_a_hash_is_stored(alice: User) -> None:
    token, plain = tokens.create(alice, "lab")
    stored = ApiToken.objects.values().get()
    assert plain not in str(stored)
    assert len(token.digest) == 128
    assert plain.startswith(token.hint.rstrip("…"))


def test_a_token_opens_the_api_and_its_use_is_noted(api: Api, alice: User) -> None:
    assert api.get("/api/v1/me").json()["username"] == "alice"
    used = ApiToken.objects.get().last_used_at
    assert used is not None
    api.get("/api/v1/me")
    assert ApiToken.objects.get().last_used_at == used, "written at most once a minute"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "not_authenticated"),
        ("Token " + "0" * 64, "token_invalid"),
        ("Token", "token_invalid"),
        ("Token two parts", "token_invalid"),
        ("Token müller", "token_invalid"),
        ("Bearer abc", "not_authenticated"),
    ],
)
def test_wrong_tokens_are_401(db: None, header: str, code: str) -> None:
    client = Client(headers={"Authorization": header} if header else {})
    response = client.get("/api/v1/me")
    assert problem_of(response)["code"] == code
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == f'Token error="{code}"'


def test_an_expired_token_says_so_and_stays_listed(api: Api) -> None:
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert api.problem("get", "/api/v1/me")["code"] == "token_expired"
    assert ApiToken.objects.get().is_expired


def test_tokens_of_inactive_people_do_not_work(api: Api, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert api.problem("get", "/api/v1/me")["code"] == "token_invalid"


def test_revoking_by_api(api: Api, stranger: Api) -> None:
    (entry,) = api.get("/api/v1/tokens").json()["results"]
    assert stranger.problem("delete", f"/api/v1/tokens/{entry['id']}")["status"] == 404
    assert api.delete(f"/api/v1/tokens/{entry['id']}").status_code == 204
    assert api.problem("get", "/api/v1/me")["code"] == "token_invalid"


def confirm(browser: Client) -> None:
    """The password once more, as the page asks for it."""
    assert browser.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302


def test_a_token_makes_no_tokens_but_a_session_does(api: Api, alice: User) -> None:
    assert (
        api.problem("post", "/api/v1/tokens", {"name": "more"}, content_type="application/json")["code"]
        == "permission_denied"
    )
    browser = Client()
    browser.force_login(alice)
    wanted = {"name": "from the page", "days": 7}
    assert problem_of(browser.post("/api/v1/tokens", wanted, content_type="application/json"))["status"] == 403
    confirm(browser)
    made = browser.post("/api/v1/tokens", {"name": "from the page", "days": 7}, content_type="application/json").json()
    assert Client(headers={"Authorization": f"Token {made['token']}"}).get("/api/v1/me").status_code == 200
    life = ApiToken.objects.get(name="from the page").expiry - timezone.now()  # type: ignore[operator]
    assert timedelta(days=6, hours=23) < life <= timedelta(days=7)


def test_sessions_need_a_csrf_token(alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    response = browser.post("/api/v1/cases", {"title": "x"}, content_type="application/json")
    assert problem_of(response)["code"] == "csrf_failed"
    assert response.status_code == 403


def sign_in(api: Client, **values: Any) -> Any:
    body = {"username": "alice", "password": PASSWORD, **values}
    return api.post("/api/v1/sign-in", body, content_type="application/json")


@pytest.mark.parametrize("login", ["alice", "alice@example.org"])
def test_sign_in_gives_a_token(alice: User, anonymous: Api, login: str) -> None:
    response = sign_in(anonymous, username=login, name="nightly job")
    assert response.status_code == 201, response.content
    assert response["Cache-Control"] == "no-store"
    made = response.json()
    assert made["name"] == "nightly job"
    assert Client(headers={"Authorization": f"Token {made['token']}"}).get("/api/v1/me").status_code == 200


def test_sign_in_with_a_wrong_password_is_refused_and_soon_locked(alice: User, anonymous: Api) -> None:
    for _ in range(5):
        assert problem_of(sign_in(anonymous, password="wrong"))["code"] == "sign_in_failed"
    response = sign_in(anonymous)
    assert problem_of(response)["code"] == "throttled"
    assert int(response["Retry-After"]) > 0


def test_sign_in_of_an_inactive_account_is_refused(alice: User, anonymous: Api) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert problem_of(sign_in(anonymous))["code"] == "sign_in_failed"


def test_a_password_alone_does_not_pass_the_second_factor(alice: User, anonymous: Api) -> None:
    secret = add_totp(alice)
    add_recovery_codes(alice)
    assert problem_of(sign_in(anonymous))["code"] == "code_required"
    assert problem_of(sign_in(anonymous, code="000000"))["code"] == "sign_in_failed"
    assert sign_in(anonymous, code=code_of(secret)).status_code == 201


def test_attempts_to_sign_in_are_throttled_by_address(anonymous: Api) -> None:
    answers = [sign_in(anonymous, username=f"nobody{i}") for i in range(11)]
    assert problem_of(answers[-1])["code"] == "throttled"
    assert answers[-1]["Retry-After"]


def test_the_portal_shows_a_new_token_once(alice: User) -> None:
    browser = Client()
    browser.force_login(alice)
    page = browser.post("/accounts/tokens/", {"name": "lab <b>system</b>", "days": "30"})
    assert page.status_code == 302 and not ApiToken.objects.exists()  # a session left open makes none
    # What was asked for goes on once the password is confirmed.
    page = browser.post(page["Location"], {"password": PASSWORD})
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    plain = page.context["plain"]
    assert plain in page.content.decode()
    assert Client(headers={"Authorization": f"Token {plain}"}).get("/api/v1/me").status_code == 200
    again = browser.get("/accounts/tokens/").content.decode()
    assert plain not in again
    assert "lab &lt;b&gt;system&lt;/b&gt;" in again


def test_the_portal_revokes_only_ones_own(alice: User, charlie: User) -> None:
    token, _ = tokens.create(alice, "lab")
    other = Client()
    other.force_login(charlie)
    assert other.post(f"/accounts/tokens/{token.pk}/revoke/").status_code == 404
    owner = Client()
    owner.force_login(alice)
    assert owner.post(f"/accounts/tokens/{token.pk}/revoke/").status_code == 302
    assert not ApiToken.objects.exists()


def test_a_name_is_needed(alice: User) -> None:
    browser = Client()
    browser.force_login(alice)
    confirm(browser)
    assert browser.post("/accounts/tokens/", {"name": "", "days": "30"}).status_code == 400
