"""Accounts: throttles and lock-out, password rules, second factor, sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.password_validation import validate_password
from django.core import mail
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from cases.accounts.sessions import client_ip
from cases.models import AuditEvent, User
from tests.factories import PASSWORD, UserFactory, add_recovery_codes, add_totp, code_of

As = Callable[[User], Client]
LOGIN = "/accounts/login/"


def sign_in(client: Client, password: str = PASSWORD, login: str = "alice", **extra: Any) -> Any:
    return client.post(LOGIN, {"login": login, "password": password}, **extra)


def is_in(client: Client) -> bool:
    return client.get(reverse("cases:history")).status_code == 200


def test_five_wrong_passwords_lock_the_account_for_a_while(client: Client, alice: User) -> None:
    for n in range(5):
        sign_in(client, f"wrong {n}", REMOTE_ADDR=f"192.0.2.{n}")
    answer = sign_in(client, REMOTE_ADDR="192.0.2.9")
    assert not is_in(client), "not even the right one, from wherever"
    assert b"Too many" in answer.content


def test_the_lock_is_the_accounts_however_it_is_asked_for(client: Client, alice: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["hospital.example"]
    ways = [("alice", "hospital.example:1"), ("ALICE", "Hospital.Example:2"), ("alice@example.org", "hospital.example")]
    for n in range(6):
        login, host = ways[n % 3]
        sign_in(client, f"wrong {n}", login, REMOTE_ADDR=f"192.0.2.{n}", headers={"Host": host})
    answer = sign_in(client, REMOTE_ADDR="192.0.2.9", headers={"Host": "hospital.example:3"})
    assert b"Too many" in answer.content


def test_an_address_that_others_claim_too_is_locked_all_the_same(client: Client, alice: User) -> None:
    EmailAddress.objects.filter(email=alice.email).delete()
    for n in range(8):
        EmailAddress.objects.create(user=UserFactory(username=f"evil{n}"), email=alice.email)
        sign_in(client, f"wrong {n}", alice.email, REMOTE_ADDR=f"192.0.2.{n}")
    assert AuditEvent.objects.filter(kind=AuditEvent.Kind.REFUSED, actor__user=alice).count() == 5
    answer = sign_in(client, PASSWORD, alice.email, REMOTE_ADDR="192.0.2.99")
    assert b"Too many" in answer.content and not is_in(client)


def test_one_address_may_not_try_many_accounts(client: Client, db: None) -> None:
    people = [UserFactory() for _ in range(11)]
    for user in people[:10]:
        sign_in(client, "wrong", user.username)
    sign_in(client, PASSWORD, people[10].username)
    assert not is_in(client)


def test_a_forged_address_does_not_reset_the_count(client: Client, db: None) -> None:
    people = [UserFactory() for _ in range(11)]
    for n, user in enumerate(people[:10]):
        sign_in(client, "wrong", user.username, headers={"X-Forwarded-For": f"192.0.2.{n}"})
    sign_in(client, PASSWORD, people[10].username, headers={"X-Forwarded-For": "192.0.2.99"})
    assert not is_in(client)


def test_the_admin_has_no_door_of_its_own(client: Client, db: None, settings: Any) -> None:
    """Its sign-in page would know neither throttle nor second factor."""
    User.objects.create_superuser("root", password=PASSWORD)
    answer = client.post(reverse("admin:login"), {"username": "root", "password": PASSWORD})
    assert answer.status_code == 302 and answer["Location"].startswith(LOGIN)
    assert "_auth_user_id" not in client.session


def test_the_answer_does_not_tell_whether_an_account_exists(client: Client, alice: User) -> None:
    known, unknown = sign_in(client, "wrong"), sign_in(client, "wrong", "nobody")
    strip = [answer.content.decode().split("<form", 1)[0] for answer in (known, unknown)]
    assert known.status_code == unknown.status_code and strip[0] == strip[1]
    for address in ("alice@example.org", "nobody@example.org"):
        assert client.post(reverse("account_reset_password"), {"email": address})["Location"].endswith("/done/")


@pytest.mark.parametrize("password", ["short", "password1234", "123456789012", "alice@example.org", "aliceexample"])
def test_weak_passwords_are_refused(password: str, db: None) -> None:
    with pytest.raises(ValidationError):
        validate_password(password, User(username="aliceexample", email="alice@example.org"))


def test_a_new_session_at_sign_in_and_none_after_sign_out(client: Client, alice: User) -> None:
    client.get(LOGIN)
    client.session["mark"] = 1
    before = client.session.session_key
    sign_in(client)
    inside = client.session.session_key
    assert inside and inside != before
    client.post(reverse("account_logout"))
    stolen = Client()
    stolen.cookies["sessionid"] = inside
    assert not is_in(client) and not is_in(stolen)


def test_a_changed_password_ends_the_other_sessions(alice: User, as_user: As) -> None:
    here, there = as_user(alice), as_user(alice)
    new = "a quite different battery"
    here.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert not is_in(there)


def test_signing_out_everywhere(alice: User) -> None:
    here, there = Client(), Client()
    for client in (here, there):
        sign_in(client)
        assert is_in(client)
    here.post(reverse("usersessions_list"))
    assert is_in(here) and not is_in(there)


def test_a_disabled_account_is_out_at_once(alice: User, as_user: As) -> None:
    client = as_user(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not is_in(client)


def test_sessions_end_by_themselves(settings: Any) -> None:
    assert settings.SESSION_COOKIE_AGE <= 24 * 3600
    assert settings.SESSION_COOKIE_HTTPONLY


def test_a_second_factor_is_asked_for_once_it_is_set_up(client: Client, alice: User) -> None:
    sign_in(client)
    page = client.get(reverse("mfa_activate_totp"))
    if page.status_code == 302:
        client.post(page["Location"], {"password": PASSWORD})
        page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    kept = Authenticator.objects.get(user=alice, type=Authenticator.Type.TOTP)
    assert secret not in str(kept.data), "the database holds it encrypted"

    other = Client()
    answer = sign_in(other)
    assert answer["Location"] == reverse("mfa_authenticate") and not is_in(other)
    other.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert not is_in(other)
    cache.clear()  # the code that set it up is spent; time goes on
    other.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert is_in(other)


def test_codes_can_not_be_guessed(client: Client, alice: User) -> None:
    secret = add_totp(alice)
    right = code_of(secret)
    sign_in(client)
    for n in range(6):
        client.post(reverse("mfa_authenticate"), {"code": f"{n:06}"})
    client.post(reverse("mfa_authenticate"), {"code": right})
    assert not is_in(client)
    given = {"username": "alice", "password": PASSWORD, "code": right}
    answer = client.post("/api/v1/sign-in", given, content_type="application/json")
    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (429, "throttled", "300")


def test_a_reset_mail_works_once(client: Client, alice: User) -> None:
    client.post(reverse("account_reset_password"), {"email": alice.email})
    link = next(word for word in mail.outbox[0].body.split() if "/password/reset/key/" in word)
    path = link.split("testserver", 1)[-1]
    form = client.get(path)["Location"]
    new = "a quite different battery"
    client.post(form, {"password1": new, "password2": new})
    again = Client().get(path)
    assert again.status_code == 200 and b"password1" not in again.content
    assert not is_in(client), "the mail alone does not sign in"
    cache.clear()
    sign_in(client, new)
    assert is_in(client)


def test_sign_up_can_be_switched_off(client: Client, db: None, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    client.post(
        reverse("account_signup"),
        {"username": "eve", "email": "eve@example.org", "password1": PASSWORD, "password2": PASSWORD},
    )
    assert not User.objects.filter(username="eve").exists()


@pytest.mark.parametrize("way", ["page", "API", "confirmation"])
def test_codes_of_ones_own_do_not_reset_the_count_of_an_address(client: Client, alice: User, way: str) -> None:
    add_totp(alice)
    codes = add_recovery_codes(alice)
    people = [UserFactory() for _ in range(11)]
    for user in people[:9]:
        sign_in(client, "wrong", user.username)
    own = Client()
    if way == "API":
        given = {"username": "alice", "password": PASSWORD, "code": codes[0]}
        answer = own.post("/api/v1/sign-in", given, content_type="application/json")
        assert answer.status_code == 201
    elif way == "page":
        sign_in(own)
        own.post(reverse("mfa_authenticate"), {"code": codes[0]})
        assert is_in(own)
    else:
        own.force_login(alice)
        answer = own.post(reverse("mfa_reauthenticate"), {"code": codes[0]})
        assert answer.status_code == 302
    sign_in(client, "wrong", people[9].username)
    sign_in(client, PASSWORD, people[10].username)
    assert not is_in(client)


def test_a_sign_in_that_waits_for_its_code_ends_with_the_password(client: Client, alice: User) -> None:
    secret = add_totp(alice)
    assert sign_in(client)["Location"] == reverse("mfa_authenticate")
    alice.refresh_from_db()
    alice.set_password("a quite different battery")
    alice.save()
    answer = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert answer["Location"] == reverse("account_login") and not is_in(client)


@pytest.mark.parametrize(
    ("proxies", "passed", "named"),
    [
        (0, "192.0.2.1", "127.0.0.1"),
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "192.0.2.1, 192.0.2.2", "192.0.2.2"),
        (2, "192.0.2.1, 192.0.2.2", "192.0.2.1"),
        (2, "192.0.2.9, 192.0.2.1, 192.0.2.2:443", "192.0.2.1"),
        (2, "192.0.2.2", "192.0.2.2"),  # a probe of the outer one's own
        (2, "", "127.0.0.1"),
    ],
)
def test_who_calls_is_whom_ones_own_proxies_name(proxies: int, passed: str, named: str, rf: Any, settings: Any) -> None:
    settings.NUM_PROXIES = proxies
    assert client_ip(rf.get("/", headers={"X-Forwarded-For": passed})) == named
