"""A message wakes the broker immediately, and an idle broker does not query the database."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django_q.brokers import get_broker
from django_q.models import OrmQ

from inference.jobs import broker
from inference.jobs.broker import PipeWakeup, WakingBroker


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WakingBroker:
    """A broker that has found the message table empty."""
    if connection.vendor == "sqlite":
        # A separate path, because other test runs may listen next to the database.
        monkeypatch.setattr(broker, "_wakeup", lambda: PipeWakeup(str(tmp_path / "wake")))
    # Within the duration of a test, only a wake-up can deliver a message.
    monkeypatch.setattr(broker, "READ_EVERY", 600.0)
    waiting = get_broker()
    assert isinstance(waiting, WakingBroker)
    assert not waiting.dequeue()
    return waiting


@pytest.mark.django_db(transaction=True)
def test_a_waiting_broker_gets_a_message_at_once(waiting: WakingBroker) -> None:
    def send() -> None:
        time.sleep(0.1)
        get_broker().enqueue("work")
        connections.close_all()

    sender = threading.Thread(target=send)
    sender.start()
    ((key, message),) = waiting.dequeue() or []
    sender.join()
    assert message == "work"
    waiting.acknowledge(key)
    assert not OrmQ.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_message_sent_between_two_waits_is_found(waiting: WakingBroker) -> None:
    for message in ("first", "second"):
        get_broker().enqueue(message)
    assert [found for _ in range(2) for _, found in waiting.dequeue() or []] == ["first", "second"]


@pytest.mark.django_db(transaction=True)
def test_an_idle_broker_does_not_query_the_database(waiting: WakingBroker) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert waiting.dequeue() is None
    assert not queries.captured_queries


@pytest.mark.django_db(transaction=True)
def test_a_lost_wake_up_only_delays_a_message(waiting: WakingBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    OrmQ.objects.create(key=waiting.list_key, payload="unannounced", lock="2020-01-01T00:00Z")
    monkeypatch.setattr(waiting, "_next_read", 0.0)
    assert [found for _, found in waiting.dequeue() or []] == ["unannounced"]


def test_a_wake_up_without_a_listening_broker_is_dropped(tmp_path: Path) -> None:
    wakeup = PipeWakeup(str(tmp_path / "wake"))
    wakeup.send()
    wakeup.listen()
    assert not wakeup.wait(0)
    wakeup.send()
    assert wakeup.wait(0)
