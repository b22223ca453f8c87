"""A database that version d56175d wrote keeps everything after ``migrate``.

``write_database.py`` made the database, its files and ``expected.json`` with the old code.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.stack import Stack

HERE = Path(__file__).parent

#: Models and keys that got new names since.
RENAMED = {
    "Event": "AuditEvent",
    "Seal": "AuditCheckpoint",
    "Identity": "Pseudonym",
    "Removal": "PendingFileDeletion",
    "Lane": "UserQueueState",
}

CONTENTS = """
import hashlib
from allauth.mfa.models import Authenticator
from allauth.mfa.adapter import get_adapter
from django.apps import apps
from django.core.management import call_command
from django.test import Client
from cases import audit
from cases.services import integrity

call_command("migrate", interactive=False, verbosity=0)
expected = json.loads({expected!r})

def values(queryset, like):
    return list(queryset.values(*like[0]))

models = [model for app in ("cases", "inference") for model in apps.get_app_config(app).get_models()]
alice = User.objects.get(username="alice")
answer = {{
    "counts": {{model.__name__: model.objects.count() for model in models}},
    "users": list(User.objects.order_by("username").values_list("username", "email", "is_superuser", "theme")),
    "cases": values(Case.objects.order_by("title"), expected["cases"]),
    "slides": values(Slide.objects.order_by("original_name", "pk"), expected["slides"]),
    "analyses": values(Analysis.objects.order_by("turn", "queued_at"), expected["analyses"]),
    "patches": [
        [table.analysis.slide.original_name, hashlib.sha256(bytes(table.malignant_bytes)).hexdigest()]
        for table in PatchTable.objects.order_by("analysis__slide__original_name")
    ],
    "readings": values(Review.objects.order_by("created_at"), expected["readings"]),
    "trail": list(audit.rows(AuditEvent.objects.all())),
    "checkpoints": values(AuditCheckpoint.objects.order_by("pk"), expected["checkpoints"]),
    "pending_deletion": list(PendingFileDeletion.objects.values_list("name", flat=True)),
    "queue_state": list(UserQueueState.objects.order_by("person").values_list("person", "end")),
    "tokens": list(ApiToken.objects.order_by("name").values_list("user__username", "name", "token_key")),
}}
answer = {{
    "contents": answer,
    "chain": audit.verify(expected["checkpoints"][-1]["hash"]),
    "problems": list(integrity.problems()),
    "password": alice.check_password(expected["password"]),
    "totp_secret": get_adapter().decrypt(Authenticator.objects.get(user=alice).data["secret"]),
    "me": Client(HTTP_HOST="127.0.0.1", HTTP_AUTHORIZATION="Token " + expected["token"]).get("/api/v1/me").json(),
    "case": Client(HTTP_HOST="127.0.0.1", HTTP_AUTHORIZATION="Token " + expected["token"]).get(
        f"/api/v1/cases/{{Case.objects.get(title='Left breast').pk}}").json(),
}}
"""


@pytest.mark.slow
def test_everything_is_kept(tmp_path: Path, random_checkpoint: Path) -> None:
    expected: dict[str, Any] = json.loads((HERE / "expected.json").read_text())
    database = sqlite3.connect(tmp_path / "old.sqlite3")
    database.executescript((HERE / "database.sql").read_text())
    database.close()
    shutil.copytree(HERE / "media", tmp_path / "media")
    # A release replaces the model that made the old results.
    models = tmp_path / "models"
    models.mkdir()
    (models / "new.safetensors").symlink_to(random_checkpoint)
    stack = Stack(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path / 'old.sqlite3'}", "MODEL_DIR": str(models)})

    found = stack.ask(CONTENTS.format(expected=json.dumps(expected)))

    contents = found["contents"]
    counts = {RENAMED.get(name, name): count for name, count in expected["counts"].items()}
    assert {name: contents["counts"][name] for name in counts} == counts
    trail = [{**event, "checkpoint": event["seal"]} for event in expected["trail"]]
    for event in trail:
        del event["seal"]
    assert contents["trail"] == trail
    for name in contents.keys() - {"counts", "trail"}:
        assert contents[name] == expected[name], name
    assert found["chain"] == []
    assert found["password"]
    assert found["totp_secret"] == expected["totp_secret"]
    assert found["me"]["username"] == "alice"
    assert found["case"]["title"] == "Left breast"
    # The old database had one file to delete; everything else is in order.
    [problem] = found["problems"]
    assert problem.startswith("1 files could not be deleted yet")
