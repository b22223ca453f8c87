"""Two worker processes on one queue: a folder of 200 does not delay another user's single image."""

from __future__ import annotations

import pytest
import requests

from .conftest import Start
from .stack import field, until

pytestmark = [pytest.mark.slow, pytest.mark.live]

FOLDER = 200


def test_a_folder_of_200_does_not_delay_a_single_image(start: Start) -> None:
    # A killed cluster counts as running for longer than the test, so that uploads are accepted.
    long = {"WORKER_TIMEOUT": "600", "ANALYSIS_LEASE": "120"}
    with start(Q_WORKERS="2", UPLOAD_MAX_FILES=str(FOLDER), ANALYSIS_THREADS="1", **long) as stack:
        token = stack.ask(
            """
            from cases.accounts import tokens
            user = User.objects.create_user("bob", "bob@example.org", "correct horse battery staple")
            answer = tokens.create(user, "test")[1]
            """
        )
        # No worker runs while the folder is sent, so that all of it is queued.
        stack.kill_whole("worker")
        folder = requests.post(
            f"{stack.url}/predict/folder",
            headers={**stack.headers, "Prefer": "respond-async"},
            files=[field(seed) for seed in range(FOLDER)],
            timeout=300,
        )
        assert folder.status_code == 202, folder.text
        single = requests.post(
            f"{stack.url}/predict/single",
            headers={"Authorization": f"Token {token}", "Prefer": "respond-async"},
            files=[("file", field(FOLDER)[1])],
            timeout=60,
        )
        assert single.status_code == 202, single.text
        stack.start("worker")
        done = """
            ended = Analysis.objects.filter(state="done")
            hers = Analysis.objects.exclude(slide__case__owner__username="bob")
            his = ended.filter(slide__case__owner__username="bob").first()
            answer = his and {"before": hers.filter(finished_at__lt=his.finished_at).count()}
        """
        found = until(120, lambda: stack.ask(done), "the single image is done")
        # Only those that the two workers had already claimed.
        assert found["before"] <= 12, found
        until(240, lambda: stack.ask("answer = not Analysis.objects.exclude(state='done').exists()"), "all done")
        assert stack.ask("answer = Analysis.objects.count()") == FOLDER + 1
        assert stack.ask("answer = Analysis.objects.filter(attempts__gt=1).count()") == 0
