"""Malformed and costly input is refused cheaply."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cases.models import AuditEvent, Case, Slide, Tag, User
from cases.services import privacy
from tests.factories import PASSWORD, upload

As = Callable[[User], Client]
LOGIN = "/accounts/login/"


@pytest.fixture
def client() -> Client:
    """Nobody is signed in."""
    return Client()


def form(body: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="login"\r\n\r\n' + body + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    "codec", ["punycode", "idna", "hex", "zlib", "undefined", "rot13", "utf-16", "iso-8859-1", "none"]
)
def test_text_is_read_as_utf_8_alone(client: Client, db: None, codec: str) -> None:
    """Python has codecs that take minutes for a megabyte, and Django would use them."""
    before = time.process_time()
    text = b"b" * 50_000 + b"-" + b"a" * 50_000
    for path, body, kind, wanted in (
        ("/api/v1/sign-in", b'{"username": "' + text + b'"}', "application/json", 400),
        (LOGIN, form(text), "multipart/form-data; boundary=x", 200),
        (LOGIN, b"login=" + text, "application/x-www-form-urlencoded", 415),
        ("/api/v1/sign-in", b"username=" + text, "application/x-www-form-urlencoded", 415),
    ):
        answer = client.generic("POST", path, body, content_type=f"{kind}; charset={codec}")
        assert answer.status_code == wanted
        assert client.get(LOGIN, CONTENT_TYPE=f"{kind}; charset={codec}").status_code == 200, "there is no body"
        assert path == LOGIN or answer.json()["code"] in ("malformed", "invalid", "unsupported_media_type")
    assert time.process_time() - before < 2


#: The same parameter twice, whole and in pieces (RFC 2231); Python's parser raises TypeError.
MIXED = "a*=x; a*0=y"


def test_a_part_of_a_form_that_can_not_be_read(as_user: As, alice: User, case: Case) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"; {MIXED}\r\n\r\n'
    body, kind = head.encode() + b"x\r\n--x--\r\n", "multipart/form-data; boundary=x"
    answer = as_user(alice).generic("POST", f"/api/v1/cases/{case.pk}/slides", body, content_type=kind)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("name", ["a." + "x" * 240, "a." + "\u6f22" * 80])
def test_a_name_too_long_for_the_disk(
    as_user: As, alice: User, case: Case, model: Any, settings: Any, name: str
) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 0
    for path, field in ((f"/api/v1/cases/{case.pk}/slides", "files"), ("/predict/single", "file")):
        answer = as_user(alice).post(path, {field: upload(name)})
        assert answer.status_code in (201, 503), answer.content
    assert Slide.objects.get().original_name == name


@pytest.mark.parametrize("name", ["utf-8", "UTF8", "us-ascii", '"utf-8"'])
def test_whatever_utf_8_is_called(client: Client, alice: User, name: str) -> None:
    body = f"login=alice&password={PASSWORD.replace(' ', '+')}"
    kind = f"application/x-www-form-urlencoded; charset={name}"
    assert client.generic("POST", LOGIN, body, content_type=kind).status_code == 302


@pytest.mark.parametrize("place", ["http://[", "//[x", "https://[::1", "\\\\evil", "javascript:alert(1)"])
def test_a_place_to_go_on_to_that_is_none(client: Client, alice: User, place: str) -> None:
    for name in ("account_login", "account_signup", "account_reset_password"):
        assert client.get(reverse(name), {"next": place}).status_code == 200
    answer = client.post(LOGIN, {"login": "alice", "password": PASSWORD, "next": place})
    assert (answer.status_code, answer["Location"]) == (302, reverse("cases:history"))


@pytest.mark.parametrize("place", ["x", "-1", "[1]", "https://evil.example/", "//evil.example"])
def test_a_form_whose_page_is_none_of_ours(as_user: As, alice: User, case: Case, place: str) -> None:
    client = as_user(alice)
    assert client.post(reverse("cases:theme"), {"theme": "dark", "next": place})["Location"] == reverse("cases:history")
    deleted = client.post(
        reverse("cases:bulk"), {"action": "delete", "confirmed": "1", "case": [case.pk], "next": place}
    )
    assert deleted["Location"] == reverse("cases:history") and not Case.objects.exists()


def test_who_asks_an_account_page_too_often_is_told_when_to_ask_again(client: Client, db: None) -> None:
    page = reverse("account_reset_password")
    answers = [client.post(page, {"email": f"{number}@example.org"}) for number in range(21)]
    assert [answers[0].status_code, answers[-1].status_code] == [302, 429]
    assert answers[-1]["Retry-After"] == "300" and "Too many attempts" in answers[-1].content.decode()


def test_a_name_that_nobody_can_have_is_not_looked_for(client: Client, db: None) -> None:
    answer = client.post(LOGIN, {"login": "a" * 100_000, "password": PASSWORD})
    assert answer.status_code == 200 and answer.context["form"].errors["login"]


@pytest.mark.parametrize("name", ["ｆormer-user", "ａlice", "alice＠example.org"])
def test_nobody_has_a_name_that_looks_like_anothers(client: Client, alice: User, name: str) -> None:
    assert privacy.NOBODY == "former-user"
    plain = unicodedata.normalize("NFKC", name)
    answer = client.post(
        reverse("account_signup"),
        {"username": name, "email": "eve@example.org", "password1": PASSWORD, "password2": PASSWORD},
    )
    assert answer.status_code == 200 and plain in str(answer.context["form"].errors["username"])
    assert not User.objects.exclude(pk=alice.pk).exists()


@pytest.mark.parametrize(
    ("table", "field"),
    [("cases_case", "title"), ("cases_slide", "original_name"), ("cases_review", "comment"),
     ("inference_analysis", "error"), ("cases_tag", "name"), ("cases_user", "username")],
)  # fmt: skip
def test_the_administration_takes_no_patterns(as_user: As, table: str, field: str, slide: Slide) -> None:
    Tag.objects.create(owner=slide.case.owner, name="tag")
    client = as_user(User.objects.create_superuser("root", password=PASSWORD))
    address = reverse(f"admin:{table}_changelist")
    for lookup in ("regex", "iregex"):
        assert client.get(address, {f"{field}__{lookup}": "["}).status_code in (302, 400)
    assert client.get(address).status_code == 200


@pytest.mark.parametrize("model", ["case", "slide"])
def test_the_question_before_a_deletion_is_a_read(as_user: As, slide: Slide, model: str) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    pk = slide.case_id if model == "case" else slide.pk
    assert as_user(root).get(reverse(f"admin:cases_{model}_delete", args=[pk])).status_code == 200
    assert AuditEvent.objects.get(kind=AuditEvent.Kind.VIEWED).case_id == slide.case_id


def test_an_image_is_taken_whatever_encoding_its_form_names(as_user: As, alice: User, case: Case, model: Any) -> None:
    """Java's commonest client names one of its own accord; what it sends are bytes."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head + upload("a.png").read() + b"\r\n--x--\r\n"
    kind = "multipart/form-data; charset=ISO-8859-1; boundary=x"
    answer = as_user(alice).generic("POST", f"/api/v1/cases/{case.pk}/slides", body, content_type=kind)
    assert answer.status_code == 201, answer.content


def test_an_action_of_the_administration_on_a_row_that_is_none(as_user: As, reviewer: User, slide: Slide) -> None:
    client, address = as_user(reviewer), reverse("admin:cases_case_changelist")
    form = {"action": "rerun", "_selected_action": "x"}
    assert "no such row" in client.post(address, form, follow=True).content.decode()

    client.post(address, {"action": "assign", "_selected_action": slide.case_id, "reviewer": reviewer.pk})
    for other in (slide.case.owner_id, "9" * 5000, "x"):
        form = {"action": "assign", "_selected_action": slide.case_id, "reviewer": other}
        assert "no longer a reviewer" in client.post(address, form, follow=True).content.decode()
    assert Case.objects.get().assigned_to == reviewer

    page = client.post(address, {"action": "assign", "_selected_action": slide.case_id}).content.decode()
    nobody = re.search(r'<option value="(.*?)">Nobody', page)
    assert nobody
    client.post(address, {"action": "assign", "_selected_action": slide.case_id, "reviewer": nobody[1]})
    assert Case.objects.get().assigned_to is None
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    for other_list in ("cases_user", "cases_tag", "usersessions_usersession"):
        for row in ("x", "9" * 25):
            form = {"action": "delete_selected", "_selected_action": row}
            answer = client.post(reverse(f"admin:{other_list}_changelist"), form, follow=True)
            assert "no such row" in answer.content.decode(), other_list


def test_an_address_that_is_too_long_is_not_cut(client: Client, db: None) -> None:
    email = f"{'a' * 60}@{'.'.join(['b' * 60] * 3)}.example.org"
    assert len(email) == 255
    form = {"username": "eve", "email": email, "password1": PASSWORD, "password2": PASSWORD}
    assert client.post(reverse("account_signup"), form).context["form"].errors["email"]
    assert not User.objects.exists()


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_dates_at_the_ends_of_time(zone: str, as_user: As, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone=zone)
    client = as_user(alice)
    for day in ("0001-01-01", "9999-12-31"):
        assert client.get(reverse("cases:history"), {"since": day, "until": day}).status_code == 200
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        for name in ("created_after", "created_before"):
            assert client.get(reverse("api:cases"), {name: moment}).status_code in (200, 400)


def test_zero_bytes_in_addresses(as_user: As, alice: User, case: Case) -> None:
    client = as_user(alice)
    for path in ("/cases/?q=%00", "/cases/?tag=%00", "/cases/?model=%00", "/cases/?page=%00", "/statistics/?x=%00"):
        assert client.get(path).status_code == 200, path
    for path in ("/api/v1/cases?q=%00", "/api/v1/cases?patient=%00", "/api/v1/cases?tag=%00", "/api/v1/cases?page=%00"):
        assert client.get(path).status_code in (200, 400, 404), path
    answer = client.post("/api/v1/cases", json.dumps({"title": "a\0b"}), content_type="application/json")
    assert answer.status_code == 400


def test_a_search_for_very_many_words(as_user: As, alice: User, case: Case) -> None:
    client = as_user(alice)
    words = " ".join("abcdefghij" * 5)
    for path in (reverse("cases:history"), reverse("api:cases")):
        assert client.get(path, {"q": words}).status_code == 200, path
        assert client.get(path, {"q": words * 100}).status_code in (200, 400), path


@pytest.mark.parametrize("name", ["api:sign-in", "api:cases", "api:tokens"])
def test_a_large_body_that_is_no_upload_is_not_read(name: str, as_user: As, alice: User) -> None:
    body = json.dumps({"title": "x" * 3_000_000})
    answer = as_user(alice).post(reverse(name), body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_json_that_is_nested_very_deep(as_user: As, alice: User) -> None:
    answer = as_user(alice).post(reverse("api:cases"), "[" * 200_000, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.django_db(transaction=True)
def test_a_zero_byte_in_a_cookie_is_the_senders_mistake(client: Client) -> None:
    """Django undoes the quoting of cookies; PostgreSQL keeps no zero byte, and is not away for that."""
    client.raise_request_exception = False
    answer = client.get(reverse("account_login"), headers={"Cookie": 'sessionid="aaaaaaaaaa\\000b"'})
    assert answer.status_code in (200, 400)
