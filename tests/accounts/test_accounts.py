"""What was taken from an account stays taken, whatever is under way; and every way to one leaves a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.contrib.admin.models import LogEntry
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, FakePayload, encode_multipart
from django.urls import reverse

from cases import audit, services
from cases.accounts import tokens
from cases.accounts.adapters import AccountAdapter
from cases.accounts.permissions import REVIEWERS
from cases.models import AuditEvent, Case, Review, Slide, Tag, User
from cases.services import privacy, retention
from cases.web.forms import PreferencesForm
from tests.factories import PASSWORD, CaseFactory, UserFactory, add_totp, upload

As = Callable[[User], Client]
Kind = AuditEvent.Kind
NEW = "another long word 77"


@pytest.fixture
def in_browser(alice: User) -> Client:
    """Alice's own, with a password that was just confirmed."""
    client = Client()
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def events(kind: str) -> list[str]:
    return list(AuditEvent.objects.filter(kind=kind).order_by("pk").values_list("detail", flat=True))


# A row that was read before it was changed


def test_saving_preferences_overwrites_nothing_else(root: User, as_user: As, monkeypatch: pytest.MonkeyPatch) -> None:
    check = PreferencesForm.is_valid

    def meanwhile(form: PreferencesForm) -> bool:
        User.objects.filter(pk=root.pk).update(is_superuser=False, is_staff=False, email="new@example.org")
        return check(form)

    monkeypatch.setattr(PreferencesForm, "is_valid", meanwhile)
    form = {"theme": "dark", "time_zone": "UTC", "default_magnification": "unknown"}
    assert as_user(root).post(reverse("cases:preferences"), form).status_code == 302
    now = User.objects.get(pk=root.pk)
    assert (now.theme, now.is_superuser, now.is_staff, now.email) == ("dark", False, False, "new@example.org")


def test_the_administration_overwrites_only_what_its_form_changed(
    alice: User, root: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, address = as_user(root), reverse("admin:cases_user_change", args=[alice.pk])
    form = client.get(address).context["adminform"].form
    sent = {name: value for name, value in form.initial.items() if isinstance(value, str)} | {
        "first_name": "Alice", "date_joined_0": "2026-01-01", "date_joined_1": "12:00:00",
    }  # fmt: skip
    check = type(form).is_valid

    def meanwhile(self: object) -> bool:
        User.objects.filter(pk=alice.pk).update(theme="dark", is_active=False)
        return bool(check(self))

    monkeypatch.setattr(UserChangeForm, "is_valid", meanwhile)
    assert client.post(address, {**sent, "is_active": "on"}).status_code == 302
    now = User.objects.get(pk=alice.pk)
    assert (now.first_name, now.theme, now.is_active) == ("Alice", "dark", False)


def test_an_erased_account_does_not_come_back(alice: User) -> None:
    earlier = User.objects.get(pk=alice.pk)
    privacy.erase(alice)
    earlier.first_name = "Alice"
    with pytest.raises(DatabaseError), transaction.atomic():
        earlier.save()
    assert not User.objects.filter(username="alice").exists()


@pytest.mark.parametrize("what", ["password", "deactivated"])
def test_what_is_under_way_ends_with_the_account(what: str, alice: User, case: Case) -> None:
    earlier = User.objects.get(pk=alice.pk)
    if what == "password":
        alice.set_password(NEW)
    alice.is_active = what == "password"
    alice.save()
    for act in (
        lambda: tokens.create(earlier, "thief"),
        lambda: services.sign_review(case, earlier, "malignant"),
        lambda: AccountAdapter().set_password(earlier, "the thief's own 99"),
    ):
        with pytest.raises(PermissionDenied):
            act()
    assert not tokens.of(alice).exists() and not Review.objects.exists()


def test_who_may_not_read_a_case_any_more_signs_nothing(case: Case, reviewer: User) -> None:
    assert reviewer.is_reviewer
    Group.objects.get(name=REVIEWERS).user_set.remove(reviewer)
    with pytest.raises(PermissionDenied):
        services.sign_review(case, reviewer, "benign")
    assert not AuditEvent.objects.filter(kind=Kind.REVIEWED).exists()


@pytest.mark.parametrize("address", ["/accounts/email/", "/accounts/preferences/", "/accounts/tokens/"])
def test_a_form_that_was_sent_slowly_is_refused(
    address: str, in_browser: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account got another password while the body was on its way, which Django reads to find the CSRF token."""
    from cases.web import middleware

    seen = middleware.is_unchanged

    def late(user: User) -> bool:
        found = User.objects.get(pk=user.pk)
        found.set_password(NEW)
        found.save()
        return seen(user)

    monkeypatch.setattr(middleware, "is_unchanged", late)
    form = {"action_add": "", "email": "thief@example.org", "name": "thief", "days": "0"}
    assert in_browser.post(address, form).status_code == 403
    assert not EmailAddress.objects.filter(email="thief@example.org").exists() and not tokens.of(alice).exists()


# Ways to a password


def test_the_administrations_own_page_for_a_password_leads_to_ours(root: User, as_user: As) -> None:
    answer = as_user(root).get(reverse("admin:password_change"))
    assert (answer.status_code, answer["Location"]) == (302, reverse("account_change_password"))


def test_guessing_the_old_password_is_counted_and_noted(in_browser: Client, alice: User) -> None:
    form = {"password1": NEW, "password2": NEW}
    for n in range(5):
        in_browser.post("/accounts/password/change/", {"oldpassword": f"wrong {n}", **form})
    assert AuditEvent.objects.filter(kind=Kind.REFUSED, actor__user=alice).count() == 5
    in_browser.post("/accounts/password/change/", {"oldpassword": PASSWORD, **form})
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD), "locked for a while"


def test_the_right_old_password_changes_it(in_browser: Client, alice: User) -> None:
    form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    assert in_browser.post("/accounts/password/change/", form).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW) and "Password changed" in events(Kind.ACCOUNT)
    assert [sent.to for sent in mail.outbox] == [[alice.email]], "its owner hears of it"


def test_a_mail_that_can_not_be_sent_fails_nothing(in_browser: Client, alice: User, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    page = in_browser.post("/accounts/password/change/", form, follow=True)
    assert page.redirect_chain and "could not be sent" not in page.content.decode(), "the change is done"
    alice.refresh_from_db()
    assert alice.check_password(NEW) and events(Kind.ACCOUNT) == ["Password changed"]


def test_a_mail_that_the_server_refuses_names_nobody_in_the_log(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(message: mail.EmailMessage, **kwargs: object) -> int:
        raise SMTPRecipientsRefused({message.to[0]: (550, b"no such user")})

    monkeypatch.setattr(mail.EmailMessage, "send", refuse)
    for address in (alice.email, "nobody@example.org"):
        page = client.post(reverse("account_reset_password"), {"email": address}, follow=True)
        assert page.status_code == 200
        assert "The e-mail could not be sent" in page.content.decode()
        assert address not in caplog.text and "SMTPRecipientsRefused" in caplog.text


def test_a_new_password_names_the_other_addresses(in_browser: Client, alice: User) -> None:
    EmailAddress.objects.create(user=alice, email="thief@example.org", verified=True)
    form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    page = in_browser.post("/accounts/password/change/", form, follow=True).content.decode()
    assert "thief@example.org" in page


def test_ones_own_password_takes_the_old_one_in_the_administration_too(root: User, as_user: As) -> None:
    for spelling in (root.pk, f"0{root.pk}", f"+{root.pk}"):
        answer = as_user(root).post(
            reverse("admin:auth_user_password_change", args=[spelling]), {"password1": NEW, "password2": NEW}
        )
        assert (answer.status_code, answer["Location"]) == (302, reverse("account_change_password")), spelling
    root.refresh_from_db()
    assert root.check_password(PASSWORD)


def test_a_reset_forgives_no_wrong_passwords(client: Client, alice: User) -> None:
    people = [UserFactory() for _ in range(9)]
    for user in people:
        client.post("/accounts/login/", {"login": user.username, "password": "wrong"})
    assert reset_links(alice.email) == 1
    address = "/accounts" + mail.outbox[0].body.split("/accounts", 1)[1].split()[0]
    page = client.get(address, follow=True)
    client.post(page.redirect_chain[-1][0], {"password1": NEW, "password2": NEW})
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    client.post("/accounts/login/", {"login": "nobody-1", "password": "wrong"})
    answer = client.post("/accounts/login/", {"login": "nobody-2", "password": "wrong"})
    assert b"Too many" in answer.content


def reset_links(email: str) -> int:
    mail.outbox.clear()
    Client().post("/accounts/password/reset/", {"email": email})
    return sum("/password/reset/key/" in sent.body for sent in mail.outbox)


def test_a_link_for_a_new_password_goes_to_the_accounts_own_address_alone(in_browser: Client, alice: User) -> None:
    in_browser.post("/accounts/email/", {"action_add": "", "email": "thief@example.org"})
    assert EmailAddress.objects.filter(email="thief@example.org", verified=False).exists()
    assert reset_links("thief@example.org") == 0
    assert reset_links(alice.email) == 1
    EmailAddress.objects.filter(email="thief@example.org").update(verified=True)
    assert reset_links("thief@example.org") == 1


def test_an_account_whose_password_was_ruled_out_gets_no_link_and_keeps_no_token(
    alice: User, root: User, as_user: As
) -> None:
    tokens.create(alice, "laboratory")
    address = reverse("admin:auth_user_password_change", args=[alice.pk])
    assert as_user(root).post(address, {"usable_password": "false", "unset-password": "1"}).status_code == 302
    alice.refresh_from_db()
    assert not alice.has_usable_password() and not tokens.of(alice).exists()
    assert reset_links(alice.email) == 0


def test_an_address_that_an_administrator_took_away_opens_nothing(alice: User, root: User, as_user: As) -> None:
    old = alice.email
    EmailAddress.objects.create(user=alice, email=old, primary=True, verified=True)
    form = {"username": "alice", "email": "new@example.org", "is_active": "on", "theme": "auto", "time_zone": "UTC",
            "default_magnification": "unknown", "date_joined_0": "2026-01-01", "date_joined_1": "10:00:00"}  # fmt: skip
    assert as_user(root).post(reverse("admin:cases_user_change", args=[alice.pk]), form).status_code == 302
    assert reset_links(old) == 0 and reset_links("new@example.org") == 1
    client = Client()
    client.post("/accounts/login/", {"login": old, "password": PASSWORD})
    assert client.get(reverse("cases:history")).status_code == 302


# Traces


def test_addresses_codes_and_sessions_leave_a_trace(in_browser: Client, alice: User) -> None:
    in_browser.post("/accounts/email/", {"action_add": "", "email": "second@example.org"})
    in_browser.post("/accounts/email/", {"action_remove": "", "email": "second@example.org"})
    in_browser.post(reverse("usersessions_list"))
    said = events(Kind.ACCOUNT)
    for expected in ("E-mail address added", "E-mail address removed", "Other sessions ended"):
        assert expected in said


def test_a_wrong_one_time_code_is_noted(alice: User) -> None:
    add_totp(alice)
    credentials = {"username": "alice", "password": PASSWORD, "code": "000000"}
    assert Client().post("/api/v1/sign-in", credentials, content_type="application/json").status_code == 401
    client = Client()
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert events(Kind.REFUSED) == ["One-time code"] * 2


def test_a_changed_name_is_noted(alice: User, as_user: As) -> None:
    form = {"first_name": "Rita", "last_name": "Reviewer", "theme": "auto", "time_zone": "UTC",
            "default_magnification": "unknown"}  # fmt: skip
    as_user(alice).post(reverse("cases:preferences"), form)
    as_user(alice).post(reverse("cases:preferences"), form | {"theme": "dark"})
    assert events(Kind.ACCOUNT) == ["Name changed"]


def test_actions_of_the_administration_are_noted_whoever_wrote_them(alice: User, root: User, as_user: As) -> None:
    address = EmailAddress.objects.create(user=alice, email="z@example.org")
    chosen = {"action": "make_verified", "_selected_action": [address.pk]}
    as_user(root).post(reverse("admin:account_emailaddress_changelist"), chosen)
    assert "Action make_verified: 1 of account_emailaddress" in events(Kind.ADMIN)


@pytest.mark.parametrize(
    ("sent", "noted"),
    [
        ({"action": "praise the owner, confirmed"}, []),
        ({"action": "delete_selected"}, []),
        ({"action": "delete_selected", "post": "yes"}, ["1 of cases_tag"]),
        ({"action": ["delete_selected", "x"], "index": "0", "post": "yes"}, ["1 of cases_tag"]),
        ({"action": "delete_selected", "post": "yes", "select_across": "1"}, ["all of cases_tag"]),
    ],
)
def test_what_was_only_asked_about_is_not_noted_as_done(
    sent: dict[str, Any], noted: list[str], alice: User, root: User, as_user: As
) -> None:
    tag = Tag.objects.create(owner=alice, name="urgent")
    as_user(root).post(reverse("admin:cases_tag_changelist"), sent | {"_selected_action": [tag.pk]})
    actions = [line for line in events(Kind.ADMIN) if line.startswith("Action")]
    assert actions == [f"Action delete_selected: {count}" for count in noted]
    assert Tag.objects.exists() != bool(noted)


def test_the_page_that_asks_whom_to_assign_is_a_read(reviewer: User, case: Case, as_user: As) -> None:
    chosen = {"action": "assign", "_selected_action": [str(case.pk)]}
    assert case.title in as_user(reviewer).post(reverse("admin:cases_case_changelist"), chosen).content.decode()
    assert AuditEvent.objects.filter(kind=Kind.VIEWED, case=case, actor__user=reviewer).count() == 1


def test_a_right_password_that_stops_at_the_second_factor_is_noted(alice: User) -> None:
    add_totp(alice)
    Client().post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    given = {"username": "alice", "password": PASSWORD, "name": "script"}
    assert Client().post(reverse("api:sign-in"), given, content_type="application/json").status_code == 401
    assert AuditEvent.objects.filter(kind=Kind.ASKED, actor__user=alice).count() == 2
    assert not AuditEvent.objects.filter(kind=Kind.SIGNED_IN).exists()


def test_an_image_that_goes_takes_its_name_along(case: Case, slide: Slide, alice: User) -> None:
    slide.original_name = "Smith 1951.png"
    slide.save()
    audit.record(Kind.ADDED, case, alice, slide.original_name)
    services.request_again(case, [slide], alice)
    services.remove_slide(slide, alice)
    assert not [event for event in AuditEvent.objects.all() if "Smith" in event.detail]
    audit.add_checkpoint()
    assert audit.verify() == []


def test_many_deletions_at_once_are_noted_one_by_one(alice: User, root: User, as_user: As) -> None:
    tags = [Tag.objects.create(owner=alice, name=name) for name in ("mrs smith 1951", "urgent")]
    chosen = {"action": "delete_selected", "post": "yes", "_selected_action": [tag.pk for tag in tags]}
    as_user(root).post(reverse("admin:cases_tag_changelist"), chosen)
    assert not Tag.objects.exists()
    assert sum("Deletion" in line for line in events(Kind.ADMIN)) == 2
    assert not LogEntry.objects.exclude(object_repr="").exists(), "and their words are not kept"


def test_deleting_a_session_in_the_administration_ends_it(in_browser: Client, root: User, as_user: As) -> None:
    in_browser.get(reverse("cases:history"))
    session = UserSession.objects.get()
    as_user(root).post(reverse("admin:usersessions_usersession_delete", args=[session.pk]), {"post": "yes"})
    assert in_browser.get(reverse("cases:history")).status_code == 302
    assert not Session.objects.filter(session_key=session.session_key).exists()
    assert not LogEntry.objects.filter(object_repr__contains="127.0.0.1").exists()


def test_rights_that_were_taken_from_reviewers_do_not_come_back(reviewer: User) -> None:
    group = Group.objects.get(name=REVIEWERS)
    group.permissions.clear()
    call_command("migrate", verbosity=0, interactive=False)
    assert not group.permissions.exists()


def test_a_new_account_still_signs_up_and_in(db: None) -> None:
    client = Client()
    form = {"username": "newcomer", "email": "newcomer@example.org", "password1": NEW, "password2": NEW}
    assert client.post("/accounts/signup/", form).status_code == 302
    assert client.get(reverse("cases:history")).status_code == 200
    assert UserFactory().check_password(PASSWORD)


def test_a_form_of_an_account_that_is_gone_is_no_failure_of_the_database(alice: User, as_user: As) -> None:
    client: Any = as_user(alice)
    client.raise_request_exception = False
    page = client.get(reverse("cases:preferences"))
    assert page.status_code == 200
    original = User.save

    def gone(self: User, *args: Any, **kwargs: Any) -> None:
        User.objects.filter(pk=self.pk).delete()
        original(self, *args, **kwargs)

    User.save = gone  # type: ignore[method-assign]
    try:
        form = {"first_name": "A", "theme": "dark", "time_zone": "UTC", "default_magnification": "unknown"}
        assert client.post(reverse("cases:preferences"), form).status_code == 409
    finally:
        User.save = original  # type: ignore[method-assign]


# The same words for different people


def test_an_account_is_erased_on_its_own_password_alone(client: Client, db: None) -> None:
    """A user name of before may look like an address that somebody else signs in by."""
    vera = UserFactory(username="vera@example.org", email="vera@clinic.example")
    mallory = UserFactory(username="mallory", email="vera@example.org")
    mallory.set_password("mallorys own password")
    mallory.save()
    client.force_login(vera)
    assert client.post(reverse("cases:data"), {"password": "mallorys own password"}).status_code == 400
    assert User.objects.filter(pk=vera.pk).exists()


def test_a_user_name_is_no_address(client: Client, db: None) -> None:
    form = {"username": "v@example.org", "email": "m@example.org", "password1": NEW, "password2": NEW}
    assert "must not contain @" in client.post("/accounts/signup/", form).content.decode()


@pytest.mark.parametrize("typed", ["alice", "ALICE", "alice@example.org", "second@example.org"])
def test_a_refused_sign_in_is_noted_of_whom_it_was_for(typed: str, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    EmailAddress.objects.create(user=alice, email="second@example.org", verified=True)
    UserFactory(username="other")
    Client().post("/accounts/login/", {"login": typed, "password": "wrong"})
    assert AuditEvent.objects.get(kind=Kind.REFUSED).actor.user == alice  # type: ignore[union-attr]


class Slow(FakePayload):
    """A body that arrives after something else has happened."""

    def __init__(self, content: bytes, first: Callable[[], Any]) -> None:
        super().__init__(content)
        self.first = first

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        self.first()
        return super().read(*args, **kwargs)


@pytest.mark.parametrize("what", ["demoted", "deactivated", "token revoked"])
@pytest.mark.parametrize("call", ["change", "delete", "add"])
def test_a_call_that_was_sent_slowly_changes_nothing(
    call: str, what: str, alice: User, case: Case, media: Path
) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    token, plain = tokens.create(User.objects.get(pk=alice.pk), "thief")

    def change() -> None:
        if what == "token revoked":
            tokens.ApiToken.objects.filter(pk=token.pk).delete()
        else:
            changed = {"is_active": False} if what == "deactivated" else {"is_superuser": False}
            User.objects.filter(pk=alice.pk).update(**changed)

    sent, kind, name = {
        "change": (b'{"title": "Stolen"}', "application/json", "api:case"),
        "delete": (b"nothing", "application/octet-stream", "api:case"),
        "add": (encode_multipart(BOUNDARY, {"files": upload()}), MULTIPART_CONTENT, "api:case-slides"),
    }[call]
    method = {"change": "PATCH", "delete": "DELETE", "add": "POST"}[call]
    ask = Client(headers={"Authorization": f"Token {plain}"})
    late = {"wsgi.input": Slow(sent, change)}
    answer = ask.generic(method, reverse(name, args=[case.pk]), sent, kind, **late)  # type: ignore[arg-type]
    assert answer.status_code in (401, 403)
    assert Case.objects.get(pk=case.pk).title == case.title
    assert not case.slides.exists()


@pytest.mark.parametrize("call", ["form", "api"])
def test_what_a_session_that_was_ended_meanwhile_sends_changes_nothing(
    call: str, case: Case, in_browser: Client, settings: Any
) -> None:
    in_browser.handler.enforce_csrf_checks = True  # which reads the form first
    in_browser.get(reverse("cases:case", args=[case.pk]))
    token = in_browser.cookies[settings.CSRF_COOKIE_NAME].value
    if call == "form":
        name, kind = "cases:review", "application/x-www-form-urlencoded"
        sent = f"reading=benign&csrfmiddlewaretoken={token}".encode()
    else:
        name, kind, sent = "api:case-reviews", "application/json", b'{"reading": "benign"}'
    late = {"wsgi.input": Slow(sent, Session.objects.all().delete), "HTTP_X_CSRFTOKEN": token}
    in_browser.generic("POST", reverse(name, args=[case.pk]), sent, kind, **late)  # type: ignore[arg-type]
    assert not Review.objects.exists()


def test_a_password_set_by_others_at_that_moment_holds(
    in_browser: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    reauthenticate = AccountAdapter.reauthenticate

    def and_meanwhile(self: AccountAdapter, user: User, password: str) -> bool:
        found = bool(reauthenticate(self, user, password))
        other = User.objects.get(pk=alice.pk)
        other.set_password("set by an administrator 5")
        other.save()
        return found

    monkeypatch.setattr(AccountAdapter, "reauthenticate", and_meanwhile)
    in_browser.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW})
    alice.refresh_from_db()
    assert alice.check_password("set by an administrator 5")


def test_nobody_can_take_the_name_under_which_erased_peoples_readings_stand(
    client: Client, db: None, alice: User, charlie: User
) -> None:
    cache.clear()
    form = {"username": privacy.NOBODY, "email": "eve@example.org", "password1": PASSWORD, "password2": PASSWORD}
    client.post(reverse("account_signup"), form)
    assert not User.objects.filter(username=privacy.NOBODY).exists()

    squatter = UserFactory(username=privacy.NOBODY)
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    services.sign_review(CaseFactory(owner=charlie), alice, "benign", comment="private words")
    privacy.erase(alice)
    assert not Review.objects.filter(author=squatter, author__is_active=True).exists()


def test_a_session_alone_changes_no_address(alice: User, as_user: As) -> None:
    """From another address the password can be set anew."""
    client = as_user(alice)
    answer = client.post(reverse("account_email"), {"action_add": "", "email": "thief@example.org"})
    assert answer.status_code == 302 and "/reauthenticate/" in answer["Location"]
    assert not EmailAddress.objects.filter(email="thief@example.org").exists()


def test_a_new_password_ends_the_tokens(alice: User, as_user: As) -> None:
    """A thief of the old password may have made one."""
    _, plain = tokens.create(alice, "thief's")
    new = "a quite different battery"
    as_user(alice).post(
        reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new}
    )
    assert Client(headers={"Authorization": f"Token {plain}"}).get(reverse("api:me")).status_code == 401


def test_counters_of_failed_attempts_are_not_pushed_out(tmp_path: Path) -> None:
    """The default cache is a folder; as Django sets it up, 300 entries are its end, and then a third goes at random."""
    from django.core.cache.backends.filebased import FileBasedCache

    from histopath import settings as production

    found = production.CACHES["default"]
    kept = FileBasedCache(str(tmp_path), {"OPTIONS": found.get("OPTIONS", {})})
    kept.set("failed", 5)
    for n in range(400):
        kept.set(f"other{n}", 1)
    assert all(kept.get(f"other{n}") for n in range(400)) and kept.get("failed") == 5


@pytest.mark.parametrize("how", ["administration", "command"])
def test_a_password_set_by_others_ends_the_tokens_too(
    how: str, root: User, alice: User, as_user: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = tokens.create(alice, "stolen")
    ask = Client(headers={"Authorization": f"Token {plain}"})
    assert ask.get("/api/v1/me").status_code == 200
    if how == "administration":
        new = {"password1": "another long word 77", "password2": "another long word 77", "usable_password": "true"}
        address = reverse("admin:auth_user_password_change", args=[alice.pk])
        assert as_user(root).post(address, new).status_code == 302
    else:
        monkeypatch.setattr("getpass.getpass", lambda **_: "another long word 77")
        call_command("changepassword", alice.username)
    assert ask.get("/api/v1/me").status_code == 401


@pytest.mark.django_db(transaction=True)
def test_the_browser_and_address_of_an_ended_session_are_forgotten(alice: User, client: Client) -> None:
    client.post("/accounts/login/", {"login": alice.username, "password": PASSWORD})
    client.get("/cases/")
    retention.purge()
    assert UserSession.objects.filter(user=alice).count() == 1
    client.session.flush()
    retention.purge()
    assert not UserSession.objects.filter(user=alice).exists()


def test_guessing_the_password_on_the_page_that_erases_is_counted(alice: User, as_user: As) -> None:
    client = as_user(alice)
    for _ in range(5):
        assert client.post(reverse("cases:data"), {"password": "wrong"}).status_code == 400
    assert AuditEvent.objects.filter(kind=Kind.REFUSED, actor__user=alice).count() == 5
    assert client.post(reverse("cases:data"), {"password": PASSWORD}).status_code == 400
    assert User.objects.filter(pk=alice.pk).exists()
