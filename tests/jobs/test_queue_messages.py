"""Messages that the queue accepts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from cases import services
from cases.models import Slide, User
from inference.models import Analysis, State


def test_a_forged_message_is_not_unpickled() -> None:
    from django_q.conf import Conf
    from django_q.core_signing import BadSignature, dumps
    from django_q.signing import PickleSerializer, SignedPackage

    class Planted:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    own = SignedPackage.dumps({"id": "1"})
    assert SignedPackage.loads(own) == {"id": "1"}
    forged = dumps(Planted(), key="another secret", salt=Conf.PREFIX, serializer=PickleSerializer)
    for message in (forged, own[:-3]):
        with pytest.raises(BadSignature):
            SignedPackage.loads(message)


@pytest.mark.django_db(transaction=True)
def test_a_slide_requested_concurrently_is_analysed_once(slide: Slide, alice: User) -> None:
    """On PostgreSQL the transactions are concurrent; SQLite allows one writer at a time."""
    Analysis.objects.update(state=State.DONE, verdict="benign", probability=0.1, finished_at=timezone.now())
    together = threading.Barrier(6)

    def again(_: int) -> Any:
        try:
            together.wait()
            return services.request_again(slide.case, [slide], alice)[0].pk
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(again, range(6)))
    assert len(found) == 1
    assert Analysis.objects.get(slide=slide, is_current=True).pk in found
