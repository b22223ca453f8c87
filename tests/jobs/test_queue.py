"""The Analysis table as a queue: nothing is lost or done twice, and the order is fair."""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import OrmQ

from cases import services
from cases.models import AuditEvent, Case, Slide, User
from inference.jobs import fairness, queue
from inference.models import Analysis, Cluster, ModelVersion, State
from inference.registry import NoModel
from tests.factories import CaseFactory, UserFactory, add_slide

pytestmark = pytest.mark.usefixtures("model", "media")


def test_a_new_slide_waits_for_the_active_model(slide: Slide, model: ModelVersion) -> None:
    analysis = slide.analysis
    assert analysis is not None
    assert (analysis.state, analysis.model_version) == (State.QUEUED, model)


def test_the_wake_up_is_sent_when_the_transaction_commits(
    case: Case, django_capture_on_commit_callbacks: object
) -> None:
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        add_slide(case)
        assert not OrmQ.objects.exists()
    assert OrmQ.objects.count() == 1


def test_without_a_model_nothing_is_stored(case: Case, media: Path) -> None:
    ModelVersion.objects.update(is_active=False)
    with pytest.raises(NoModel):
        add_slide(case)
    assert not Slide.objects.exists()
    assert not list(media.rglob("*.png"))


def test_requesting_a_queued_analysis_again_adds_none(slide: Slide) -> None:
    again = queue.request_analyses({slide.pk: (700, 460)}, slide.case.owner_id)
    assert again == [slide.analysis]
    assert Analysis.objects.count() == 1


def test_a_reanalysis_keeps_the_earlier_result(slide: Slide) -> None:
    first = Analysis.objects.get()
    Analysis.objects.update(state=State.DONE)
    queue.request_analyses({slide.pk: (700, 460)}, slide.case.owner_id)
    assert Analysis.objects.count() == 2
    first.refresh_from_db()
    assert not first.is_current


def test_a_row_is_claimed_once(slide: Slide) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    claimed = queue.claim_next(first)
    assert claimed is not None
    assert (claimed.state, claimed.claim, claimed.attempts) == (State.RUNNING, first, 1)
    assert queue.claim_next(second) is None


def test_a_single_image_does_not_wait_for_another_users_folder(case: Case, charlie: User) -> None:
    folder = [add_slide(case, f"{n}.png") for n in range(5)]
    single = add_slide(CaseFactory(owner=charlie))
    order = []
    while claimed := queue.claim_next(uuid.uuid4()):
        order.append(claimed.slide_id)
    assert order == [folder[0].pk, single.pk, *(slide.pk for slide in folder[1:])]


def test_a_users_images_are_analysed_in_order(case: Case) -> None:
    first = [add_slide(case, f"first-{n}.png") for n in range(6)]
    order = [queue.claim_next(uuid.uuid4()) for _ in range(3)]
    Analysis.objects.filter(state=State.RUNNING).update(state=State.DONE)
    late = add_slide(case, "late.png")
    while claimed := queue.claim_next(uuid.uuid4()):
        order.append(claimed)
    assert [one and one.slide_id for one in order] == [*(slide.pk for slide in first), late.pk]


def test_a_new_user_is_next_while_a_folder_is_analysed(case: Case, charlie: User) -> None:
    folder = [add_slide(case, f"{n}.png") for n in range(6)]
    taken = [queue.claim_next(uuid.uuid4()) for _ in range(4)]
    Analysis.objects.filter(pk__in=[one.pk for one in taken[:3] if one]).update(state=State.DONE)
    single = add_slide(CaseFactory(owner=charlie))
    assert [queue.claim_next(uuid.uuid4()).slide_id for _ in range(2)] == [single.pk, folder[4].pk]  # type: ignore[union-attr]


def test_position_counts_the_analyses_ahead(case: Case) -> None:
    slides = [add_slide(case, f"{n}.png") for n in range(3)]
    assert [queue.position(slide.analysis) for slide in slides if slide.analysis] == [0, 1, 2]


def expire(analysis: Analysis) -> None:
    Analysis.objects.filter(pk=analysis.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_an_expired_lease_returns_the_analysis_to_the_queue(slide: Slide) -> None:
    claimed = queue.claim_next(uuid.uuid4())
    assert claimed is not None
    assert queue.reclaim_expired() == 0
    expire(claimed)
    assert queue.reclaim_expired() == 1
    assert Analysis.objects.get().state == State.QUEUED


def test_after_three_expired_leases_the_analysis_fails_visibly(slide: Slide, case: Case) -> None:
    for _ in range(3):
        claimed = queue.claim_next(uuid.uuid4())
        assert claimed is not None
        expire(claimed)
        queue.reclaim_expired()
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.error_code) == (State.FAILED, "interrupted")
    case.refresh_from_db()
    assert (case.state, case.failed_count) == ("failed", 1)


def test_a_worker_that_lost_its_claim_cannot_write(slide: Slide) -> None:
    old = uuid.uuid4()
    claimed = queue.claim_next(old)
    assert claimed is not None
    expire(claimed)
    queue.reclaim_expired()
    queue.claim_next(uuid.uuid4())
    queue.progress(claimed.pk, old, 5, 12)
    assert not queue.fail(claimed.pk, old, "error", "too late")
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.patches_done, analysis.error) == (State.RUNNING, 0, "")


def test_a_stopping_worker_releases_without_counting_an_attempt(slide: Slide) -> None:
    claim = uuid.uuid4()
    queue.claim_next(claim)
    assert queue.release(claim) == 1
    analysis = Analysis.objects.get()
    assert (analysis.state, analysis.attempts) == (State.QUEUED, 0)


def test_reclaiming_wakes_a_worker_after_a_lost_message(slide: Slide) -> None:
    OrmQ.objects.all().delete()
    queue.reclaim_expired()
    assert OrmQ.objects.count() == 1
    queue.reclaim_expired()
    assert OrmQ.objects.count() == 1  # one message is enough


@pytest.mark.django_db(transaction=True)
def test_an_image_can_be_removed_while_its_analysis_ends(case: Case, alice: User) -> None:
    for _ in range(4):
        slide = add_slide(case)
        claim = uuid.uuid4()
        claimed = queue.claim_next(claim)
        assert claimed is not None
        together = threading.Barrier(2, timeout=30)

        def end(claimed: Analysis = claimed, claim: uuid.UUID = claim, together: threading.Barrier = together) -> None:
            try:
                together.wait()
                queue.fail(claimed.pk, claim, "error", "for this test")
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(end)
            together.wait()
            services.remove_slide(slide, alice)
            ended.result()
    case.refresh_from_db()
    assert (case.slide_count, case.open_count, case.failed_count) == (0, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_analyses_that_end_at_the_same_moment_are_all_counted(case: Case) -> None:
    """Several workers finish the last images of a case at once. On PostgreSQL their transactions are concurrent."""
    number = 8
    for _ in range(number):
        add_slide(case)
    claims = [uuid.uuid4() for _ in range(number)]
    held = [queue.claim_next(claim) for claim in claims]
    together = threading.Barrier(number, timeout=30)

    def end(analysis: Analysis | None, claim: uuid.UUID) -> None:
        try:
            together.wait()
            assert analysis
            assert queue.fail(analysis.pk, claim, "error", "for this test")
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(end, held, claims))
    case.refresh_from_db()
    assert (case.open_count, case.failed_count) == (0, number)
    assert case.events.filter(kind=AuditEvent.Kind.ANALYSED).count() == 1


def test_a_failed_broker_is_not_contacted_for_each_image(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each contact with a hanging broker takes seconds; the rows are found at the next heartbeat."""
    asked = []

    def hung() -> None:
        asked.append(1)
        raise TimeoutError

    monkeypatch.setattr(queue, "get_broker", hung)
    monkeypatch.setattr(queue, "_broker_away_until", 0.0)
    for _ in range(5):
        queue.wake()
    assert len(asked) == 1


def test_a_stalled_queue_is_distinguished_from_a_busy_one(
    slide: Slide, case: Case, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cluster.objects.create(host="test", pid=1)
    monkeypatch.setattr("inference.registry.is_usable", lambda: True)
    assert client.get("/health").status_code == 200
    long_ago = timezone.now() - timedelta(hours=1)
    Analysis.objects.update(queued_at=long_ago)
    assert [one["code"] for one in client.get("/health").json()["problems"]] == ["not_working"]
    busy = add_slide(case)
    Analysis.objects.filter(slide=busy).update(queued_at=long_ago - timedelta(hours=1))
    queue.claim_next(uuid.uuid4())
    Analysis.objects.filter(state=State.RUNNING).update(started_at=long_ago)
    assert client.get("/health").status_code == 200
    Analysis.objects.filter(state=State.RUNNING).update(lease_until=long_ago)
    assert client.get("/health").status_code == 503


def test_health_reports_database_failures_as_such(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError

    monkeypatch.setattr("inference.registry.is_usable", broken)
    answer = client.get("/health").json()
    assert answer["checks"]["database"] and "database_unavailable" not in {p["code"] for p in answer["problems"]}


def test_large_images_count_by_their_size(case: Case, charlie: User, media: Path, model: ModelVersion) -> None:
    """An image with the patches of twelve fields is followed by twelve fields of another user."""
    for number in range(2):
        large = Slide.objects.get(pk=add_slide(case, f"large-{number}.png").pk)
        Analysis.objects.filter(slide=large).delete()
        side = 224 * 12
        Slide.objects.filter(pk=large.pk).update(width=side, height=side)
        queue.request_analyses({large.pk: (side, side)}, case.owner_id)
    other = CaseFactory(owner=charlie)
    for number in range(14):
        add_slide(other, f"field-{number}.png")
    order = []
    while analysis := queue.claim_next(uuid.uuid4()):
        order.append(analysis.slide.original_name)
    assert [name for name in order if name.startswith("large")] == ["large-0.png", "large-1.png"]
    assert order.index("large-1.png") in (12, 13)


def test_a_folder_makes_progress_while_others_send_single_images(case: Case, media: Path, model: ModelVersion) -> None:
    """Six users send the next image when the last is done: the folder gets a seventh of the capacity."""
    mine = {add_slide(case, f"{number}.png").pk for number in range(10)}
    others = {add_slide(other).pk: other for other in (CaseFactory(owner=UserFactory()) for _ in range(6))}
    claim, done = uuid.uuid4(), 0
    for _ in range(70):
        analysis = queue.claim_next(claim)
        assert analysis is not None
        ended = {"state": State.DONE, "claim": None, "finished_at": timezone.now()}
        Analysis.objects.filter(pk=analysis.pk).update(**ended)
        if analysis.slide_id in mine:
            done += 1
        else:
            sender = others[analysis.slide_id]
            others[add_slide(sender).pk] = sender
    assert done >= 9


@pytest.mark.sqlite
def test_no_query_scans_finished_analyses(case: Case, media: Path, model: ModelVersion) -> None:
    """A scan would take long in a large table, and would block writers on SQLite."""
    with CaptureQueriesContext(connection) as captured:
        slide = add_slide(case)
        services.request_again(case, [slide], case.owner)
        queue.reclaim_expired()
        claim = uuid.uuid4()
        analysis = queue.claim_next(claim)
        assert analysis is not None
        queue.fail(analysis.pk, claim, "code", "Why.")
    with connection.cursor() as cursor:
        for query in [query["sql"] for query in captured.captured_queries if query["sql"].startswith("SELECT")]:
            plan = [str(row[3]) for row in cursor.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()]
            walks = [step for step in plan if re.match(r"SCAN (inference_analysis|cases_slide|cases_case)\b", step)]
            assert all(re.search(r"USING .*INDEX analysis_(queue|leases)\b", step) for step in walks), (query, plan)


def end(analysis: Analysis | None) -> str:
    assert analysis is not None
    ended = {"state": State.DONE, "claim": None, "finished_at": timezone.now()}
    Analysis.objects.filter(pk=analysis.pk).update(**ended)
    return str(analysis.slide.original_name)


def test_a_user_is_not_penalised_for_an_earlier_folder(case: Case, charlie: User, media: Path) -> None:
    """Virtual time advances when the queue is empty."""
    for number in range(20):
        add_slide(case, f"{number}.png")
        end(queue.claim_next(uuid.uuid4()))
    other = CaseFactory(owner=charlie)
    for number in range(30):
        add_slide(other, f"other-{number}.png")
    add_slide(case, "one.png")
    assert "one.png" in [end(queue.claim_next(uuid.uuid4())) for _ in range(2)]


def test_a_long_image_in_another_worker_does_not_stop_virtual_time(case: Case, charlie: User, media: Path) -> None:
    add_slide(CaseFactory(owner=UserFactory()), "long.png")
    assert queue.claim_next(uuid.uuid4()), "and it goes on for long"
    for number in range(20):
        add_slide(case, f"{number}.png")
    for _ in range(10):
        end(queue.claim_next(uuid.uuid4()))
    other = CaseFactory(owner=charlie)
    for number in range(10):
        add_slide(other, f"other-{number}.png")
    whose = [end(queue.claim_next(uuid.uuid4())).startswith("other") for _ in range(8)]
    assert 3 <= sum(whose) <= 5, "both in turn"


def test_a_slide_deleted_while_it_is_claimed_blocks_nobody(
    case: Case, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add_slide(case, "first.png"), add_slide(case, "second.png")
    with_model = Analysis.with_model

    def and_it_goes() -> object:
        Slide.objects.filter(pk=first.pk).delete()
        return with_model()

    monkeypatch.setattr(Analysis, "with_model", and_it_goes)
    analysis = queue.claim_next(uuid.uuid4())
    assert analysis is not None and analysis.slide_id == second.pk


def test_deleting_results_gives_no_priority(case: Case, charlie: User, media: Path) -> None:
    mine = {add_slide(case, f"{number}.png").pk for number in range(10)}
    other = CaseFactory(owner=charlie)
    add_slide(other)
    done = 0
    for _ in range(20):
        analysis = queue.claim_next(uuid.uuid4())
        end(analysis)
        assert analysis is not None
        if analysis.slide_id in mine:
            done += 1
        else:
            services.remove_slide(analysis.slide, charlie)
            add_slide(other)
    assert done >= 9


def test_deleting_queued_analyses_frees_their_place(case: Case, charlie: User, media: Path) -> None:
    wrong = [add_slide(case, f"wrong-{number}.png") for number in range(10)]
    other = CaseFactory(owner=charlie)
    for number in range(10):
        add_slide(other, f"{number}.png")
    for slide in wrong:
        services.remove_slide(slide, case.owner)
    add_slide(case, "right.png")
    assert "right.png" in [end(queue.claim_next(uuid.uuid4())) for _ in range(2)]


def test_virtual_time_never_goes_back(case: Case, charlie: User, media: Path) -> None:
    """A long image that is released keeps its early start time; new requests do not get an earlier one."""
    add_slide(CaseFactory(owner=UserFactory()), "long.png")
    claim = uuid.uuid4()
    assert queue.claim_next(claim)
    for number in range(20):
        add_slide(case, f"{number}.png")
    for _ in range(10):
        end(queue.claim_next(uuid.uuid4()))
    Analysis.objects.filter(state=State.DONE).update(finished_at=timezone.now() - timedelta(hours=1))
    assert queue.release(claim) == 1
    other = CaseFactory(owner=charlie)
    for number in range(10):
        add_slide(other, f"other-{number}.png")
    assert end(queue.claim_next(uuid.uuid4())) == "long.png"
    whose = [end(queue.claim_next(uuid.uuid4())).startswith("other") for _ in range(8)]
    assert 3 <= sum(whose) <= 5, "both in turn"


def test_the_first_request_to_an_empty_queue_is_served_first(case: Case, charlie: User, media: Path) -> None:
    """Even if the last finished image was a large one and none has begun before others are requested."""
    large = add_slide(CaseFactory(owner=UserFactory()))
    Analysis.objects.all().delete()
    Slide.objects.filter(pk=large.pk).update(width=12_000, height=12_000)
    services.request_again(large.case, [Slide.objects.get(pk=large.pk)], large.case.owner)
    end(queue.claim_next(uuid.uuid4()))
    add_slide(case, "first.png")
    other = CaseFactory(owner=charlie)
    for number in range(5):
        add_slide(other, f"other-{number}.png")
    assert end(queue.claim_next(uuid.uuid4())) == "first.png"


def test_a_claim_that_waits_for_virtual_time_locks_nothing(
    case: Case, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked row could not be renewed, and its lease would expire."""
    add_slide(case)
    begin = fairness.begin

    def noticed(analysis: Analysis) -> None:
        assert Analysis.objects.get().state == State.QUEUED
        begin(analysis)

    monkeypatch.setattr(fairness, "begin", noticed)
    assert queue.claim_next(uuid.uuid4())
