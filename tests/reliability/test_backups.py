"""A backup of a running installation, restored into an empty one, is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Postgres
from .stack import Stack

pytestmark = pytest.mark.live

FILL = """
from django.core.management import call_command
from cases import audit, services
from cases.images import synthetic

call_command("migrate", interactive=False, verbosity=0)
alice = User.objects.create_user("alice", "alice@example.org", "correct horse battery staple")
case = Case.objects.create(owner=alice, title="Before")
assert services.add_slides(case, synthetic.uploads()[:2])[1] == []
audit.add_checkpoint()
call_command("dbbackup", interactive=False, verbosity=0)
call_command("mediabackup", interactive=False, verbosity=0)
Case.objects.create(owner=alice, title="After")
answer = sorted(Slide.objects.values_list("stored_sha256", flat=True))
"""

RESTORE = """
from io import StringIO
from django.core.management import call_command
from cases import audit

call_command("dbrestore", interactive=False, verbosity=0)
call_command("mediarestore", interactive=False, verbosity=0)
call_command("migrate", interactive=False, verbosity=0)
said = StringIO()
call_command("verify", stdout=said)
answer = {
    "verify": said.getvalue(),
    "chain": audit.verify(),
    "events": AuditEvent.objects.count(),
    "titles": list(Case.objects.values_list("title", flat=True)),
    "slides": sorted(Slide.objects.values_list("stored_sha256", flat=True)),
    "queued": Analysis.objects.filter(state="queued").count(),
}
"""


def backed_up_and_restored(tmp_path: Path, checkpoint: Path, first: str, second: str) -> None:
    common = {"MODEL_DIR": str(checkpoint.parent), "BACKUP_DIR": str(tmp_path / "backups")}
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    slides = Stack(tmp_path / "first", {**common, "DATABASE_URL": first}).ask(FILL)
    assert len(slides) == 2

    found = Stack(tmp_path / "second", {**common, "DATABASE_URL": second}).ask(RESTORE)

    assert "2 slides, 1 cases" in found["verify"]
    assert found["chain"] == []
    assert found["events"] == 2
    assert found["titles"] == ["Before"]
    assert found["slides"] == slides
    assert found["queued"] == 2
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "backups").iterdir()}
    assert modes == {0o600}


def test_sqlite(tmp_path: Path, random_checkpoint: Path) -> None:
    urls = (f"sqlite:///{tmp_path / name / 'histopath.sqlite3'}" for name in ("first", "second"))
    backed_up_and_restored(tmp_path, random_checkpoint, *urls)


@pytest.mark.slow
def test_postgresql(tmp_path: Path, random_checkpoint: Path, postgres: Postgres) -> None:
    """Objects of an administrator in the database are not part of the backup and not changed."""
    backed_up_and_restored(tmp_path, random_checkpoint, postgres.database(), postgres.database())
