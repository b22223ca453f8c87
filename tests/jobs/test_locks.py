"""Concurrent transactions on the same rows: no deadlock and no lost update."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import audit, services
from cases.models import AuditEvent, Case, Slide, User
from cases.services import aggregation, analyses, cases, locking, privacy
from inference.jobs import queue
from inference.models import Analysis, State, UserQueueState
from tests.factories import PASSWORD, add_slide
from tests.patching import patch_service

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("model", "media")]


def beside(work: threading.Thread) -> None:
    """Start it in a thread, and wait until it is finished or blocked."""
    work.start()
    time.sleep(0.5)


def in_thread(act: object) -> threading.Thread:
    def run() -> None:
        try:
            act()  # type: ignore[operator]
        finally:
            connection.close()

    return threading.Thread(target=run)


def erase(user: User, where: str) -> None:
    if where == "portal":
        privacy.erase(user)
        return
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    address = reverse("admin:cases_user_delete", args=[user.pk])
    assert client.post(address, {"post": "yes"}).status_code == 302


class Worker:
    """Claims an analysis and finishes it, even if its row has been deleted."""

    def __init__(self) -> None:
        self.claim = uuid.uuid4()

    def take(self) -> None:
        taken = queue.claim_next(self.claim)
        assert taken
        self.pk = taken.pk

    def end(self) -> bool:
        """Returns whether the result was stored."""
        return queue.fail(self.pk, self.claim, "error", "for this test")


@pytest.mark.parametrize("where", ["portal", "administration"])
def test_a_case_is_deleted_while_one_of_its_analyses_ends(
    where: str, case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide(case)
    worker, ended, lock = Worker(), list[bool](), locking.lock_case
    worker.take()
    ending = in_thread(lambda: ended.append(worker.end()))

    def and_meanwhile(*args: object, **kwargs: object) -> None:
        if not ending.ident:
            beside(ending)
        lock(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cases, "lock_case", and_meanwhile)
    if where == "portal":
        services.remove_case(case, alice)
    else:
        root = User.objects.create_superuser("root", password=PASSWORD)
        client = Client()
        client.force_login(root)
        assert client.post(reverse("admin:cases_case_delete", args=[case.pk]), {"post": "yes"}).status_code == 302
    ending.join()
    assert len(ended) == 1 and not Case.objects.filter(pk=case.pk).exists()
    assert audit.verify() == []


@pytest.mark.postgresql
def test_an_analysis_ends_while_its_case_is_being_deleted(
    case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waits for the deletion, which must not wait for the worker."""
    add_slide(case)
    worker, ended = Worker(), list[bool]()
    worker.take()
    ending = in_thread(lambda: ended.append(worker.end()))
    erase = audit.erase_log_entries

    def slowly(keys: object) -> None:
        beside(ending)
        erase(keys)  # type: ignore[arg-type]

    monkeypatch.setattr(audit, "erase_log_entries", slowly)
    services.remove_case(case, alice)
    ending.join()
    assert ended == [False] and not Analysis.objects.exists()


@pytest.mark.postgresql
def test_two_analyses_of_a_case_end_at_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither transaction counts the other's analysis as open."""
    workers = [Worker(), Worker()]
    for number, worker in enumerate(workers):
        add_slide(case, f"{number}.png")
        worker.take()
    derived = aggregation.derived

    def slowly(of: Case) -> object:
        values = derived(of)
        time.sleep(0.5)
        return values

    monkeypatch.setattr(aggregation, "derived", slowly)
    both = [in_thread(worker.end) for worker in workers]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    case.refresh_from_db()
    assert (case.open_count, case.failed_count) == (0, 2)


@pytest.mark.postgresql
def test_an_image_is_removed_while_the_magnification_is_corrected(
    case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = add_slide(case)
    record, propagate_magnification = services.record, services.propagate_magnification
    removed, changed = threading.Event(), threading.Event()
    answers: list[int] = []

    def slowly_noted(of: Case, kind: str, *args: object, **kwargs: object) -> object:
        if kind == AuditEvent.Kind.REMOVED:
            removed.set()
            changed.wait(1)
        return record(of, kind, *args, **kwargs)  # type: ignore[arg-type]

    def slowly_passed_on(*args: object) -> None:
        changed.set()
        removed.wait(1)
        propagate_magnification(*args)  # type: ignore[arg-type]

    def correct() -> None:
        client = Client()
        client.force_login(alice)
        form = {"title": case.title, "magnification": "400X", "overlap": "0.0", "tags": ""}
        answers.append(client.post(reverse("cases:edit", args=[case.pk]), form).status_code)

    patch_service(monkeypatch, "record", slowly_noted)
    patch_service(monkeypatch, "propagate_magnification", slowly_passed_on)
    both = [in_thread(lambda: services.remove_slide(slide, alice)), in_thread(correct)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert answers == [302] and not case.slides.exists()


@pytest.mark.postgresql
def test_an_image_is_removed_just_after_its_reanalysis_was_requested(
    case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion waits for the request; the worker that ends the new analysis waits for the deletion."""
    slide = add_slide(case)
    Analysis.objects.update(state=State.DONE, finished_at=timezone.now())
    worker, ended, about_to_commit = Worker(), list[bool](), threading.Event()
    refresh, delete = services.refresh, Slide.delete

    def slowly_refreshed(of: Case) -> None:
        refresh(of)
        about_to_commit.set()
        time.sleep(0.5)

    asking = in_thread(lambda: services.request_again(case, [slide], alice))
    taking = in_thread(worker.take)
    ending = in_thread(lambda: ended.append(worker.end()))

    def slowly(self: Slide) -> object:
        asking.join()
        taking.start()
        taking.join()
        beside(ending)
        return delete(self)

    monkeypatch.setattr(analyses, "refresh", slowly_refreshed)
    monkeypatch.setattr(Slide, "delete", slowly)
    asking.start()
    assert about_to_commit.wait(10)
    services.remove_slide(slide, alice)
    ending.join()
    assert ended == [False] and not Slide.objects.exists()


def test_an_image_removed_while_reanalysed_leaves_no_name(
    case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = add_slide(case)
    Analysis.objects.update(state=State.DONE, finished_at=timezone.now())
    with monkeypatch.context() as patch:
        # The first step after other transactions can see the queued analysis.
        patch.setattr(queue, "wake", lambda: services.remove_slide(Slide.objects.get(), alice))
        services.request_again(case, [slide], alice)
    told = AuditEvent.objects.filter(case=case.pk)
    assert {AuditEvent.Kind.ADDED, AuditEvent.Kind.REQUESTED, AuditEvent.Kind.REMOVED} <= set(
        told.values_list("kind", flat=True)
    )
    assert not told.filter(detail__contains=slide.original_name).exists() and audit.verify() == []


@pytest.mark.postgresql
def test_an_account_is_deleted_while_a_worker_renews_leases_of_two_cases(
    case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The administration deletes all cases in one transaction, in another order than their analyses."""
    claim, remove = uuid.uuid4(), services.remove_case
    for of in (case, Case.objects.create(owner=alice, title="Second")):
        add_slide(of)
        queue.claim_next(claim)
    held = list(Analysis.objects.order_by("-pk"))
    renewed: list[bool] = []

    def renew() -> None:
        queue.renew(claim, [analysis.pk for analysis in held])
        renewed.append(True)

    renewing = in_thread(renew)

    def all_of_them(of: Case, actor: User) -> None:
        if renewing.ident:
            return
        remove(Case.objects.get(slides=held[0].slide_id), actor)
        beside(renewing)
        remove(Case.objects.get(slides=held[1].slide_id), actor)

    patch_service(monkeypatch, "remove_case", all_of_them)
    erase(alice, "administration")
    renewing.join()
    assert renewed and not User.objects.filter(username="alice").exists()


@pytest.mark.parametrize("where", ["portal", "administration"])
@pytest.mark.postgresql
def test_an_account_is_erased_while_one_of_its_images_is_queued(
    where: str, case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, person = add_slide(case), alice.pk
    Analysis.objects.all().delete()
    refresh, remove = services.refresh, services.remove_case
    queued = threading.Event()

    def slowly_refreshed(of: Case) -> None:
        queued.set()
        time.sleep(0.5)
        refresh(of)

    asking = in_thread(lambda: services.analyse(case, [slide]))

    def and_meanwhile(of: Case, actor: User) -> None:
        # The first call comes before the account is locked.
        if connection.in_atomic_block:
            asking.start()
            assert queued.wait(10)
            remove(of, actor)

    monkeypatch.setattr(analyses, "refresh", slowly_refreshed)
    monkeypatch.setattr(services, "remove_case", and_meanwhile)
    erase(alice, where)
    asking.join()
    assert not User.objects.filter(username="alice").exists() and not Slide.objects.exists()
    assert not Analysis.objects.exists() and not UserQueueState.objects.filter(person=person).exists()


@pytest.mark.parametrize("where", ["portal", "administration"])
@pytest.mark.postgresql
def test_an_account_that_is_being_erased_gets_no_new_case(
    where: str, case: Case, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def create() -> None:
        try:
            services.create_case(User.objects.get(pk=alice.pk), title="One more")
        except IntegrityError as error:
            refused.append(str(error))

    creating, remove = in_thread(create), services.remove_case

    def and_meanwhile(of: Case, actor: User) -> None:
        if connection.in_atomic_block:
            beside(creating)
            remove(of, actor)

    monkeypatch.setattr(services, "remove_case", and_meanwhile)
    erase(alice, where)
    creating.join()
    assert refused and not Case.objects.exists() and not User.objects.filter(username="alice").exists()


@pytest.mark.parametrize("where", ["portal", "administration"])
@pytest.mark.parametrize("whose", ["own", "assigned"])
@pytest.mark.postgresql
def test_an_account_is_erased_while_an_image_is_added(
    whose: str, where: str, case: Case, alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that changes twice in a transaction refers to accounts whose rows must exist when it commits."""
    if whose != "own":
        Case.objects.update(owner=charlie, assigned_to=alice)
        case.refresh_from_db()
    noted, added = threading.Event(), list[str]()
    record, remove = services.record, services.remove_case

    def slowly_noted(of: Case, kind: str, *args: object, **kwargs: object) -> object:
        event = record(of, kind, *args, **kwargs)  # type: ignore[arg-type]
        if kind == AuditEvent.Kind.ADDED:
            noted.set()
            time.sleep(1)
        return event

    adding = in_thread(lambda: added.append(add_slide(case, "new.png").original_name))

    def late(of: Case, actor: User) -> None:
        if not adding.ident:
            if not connection.in_atomic_block:
                return
            adding.start()
            assert noted.wait(10)
        remove(of, actor)

    patch_service(monkeypatch, "record", slowly_noted)
    if whose == "own":
        patch_service(monkeypatch, "remove_case", late)
    else:
        adding.start()
        assert noted.wait(10)
    erase(alice, where)
    adding.join()
    assert not User.objects.filter(username="alice").exists() and added == ["new.png"]
    assert Slide.objects.exists() is (whose != "own")
