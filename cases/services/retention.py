"""What expires: cases after ``RETENTION_DAYS``, network addresses, ended sessions, and files that nothing refers to."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.files.storage import Storage, default_storage
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from cases import audit, services
from cases.images import deletion, intake
from cases.limits.housekeeping import queue_once
from cases.models import Case, Slide, User
from cases.services.locking import lock_case
from inference.models import UserQueueState

log = logging.getLogger(__name__)

#: Seconds after which an unreferenced file of the store, or a partial upload, counts as abandoned.
ABANDONED = 24 * 3600
#: Up to this many unreferenced files, or this share of the referenced ones, are taken for leftovers of crashes.
ORPHANS_MAX, ORPHANS_SHARE_MAX = 20, 0.05
FOLDERS = ("slides", "thumbnails", "previews")


def orphans(storage: Storage = default_storage, older_than: float = 0) -> tuple[list[str], int]:
    """Files of the store that belong to no slide.

    Returns the names of those older than ``older_than`` seconds, and the number of files that do belong to a slide.
    Files whose deletion is pending (:mod:`cases.images.deletion`) are in neither.
    """
    known = {name for slide in Slide.objects.iterator() for name in intake.files_of(slide)}
    pending = set(deletion.names())
    before = timezone.now() - timedelta(seconds=older_than)
    found, belonging = [], 0
    for folder in FOLDERS:
        for name in _walk(storage, folder):
            if name in known:
                belonging += 1
            elif name not in pending:
                with _skipping_failures():
                    if storage.get_modified_time(name) <= before:
                        found.append(name)
    return found, belonging


@contextlib.contextmanager
def _skipping_failures() -> Iterator[None]:
    """A file that can't be read or deleted does not stop the others."""
    try:
        yield
    except FileNotFoundError:
        pass  # deleted by somebody else in the meantime
    except OSError as error:
        log.warning("A file could not be read or deleted, and was skipped: %s", error)


def _walk(storage: Storage, folder: str) -> Iterator[str]:
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{file}" for file in files)
    for inner in folders:
        yield from _walk(storage, f"{folder}/{inner}")


def purge(all_files: bool = False) -> dict[str, int]:
    """Delete what has expired. Returns how many ``cases``, ``addresses``, ``files`` and ``uploads`` were deleted.

    A crash leaves few unreferenced files. If there are many, the store probably belongs to another database (an empty,
    older or unrelated one), and they are kept unless ``all_files`` is true.
    """
    counted = {
        "cases": _delete_old_cases(),
        "addresses": 0,
        "files": deletion.again() + _delete_orphans(all_files),
        "uploads": _delete_partial_uploads(),
    }
    if settings.IP_RETENTION_DAYS:
        counted["addresses"] = audit.erase_addresses(timezone.now() - timedelta(days=settings.IP_RETENTION_DAYS))
    # A worker that was starting an analysis may have written the state of an account that was erased meanwhile.
    UserQueueState.objects.exclude(person=UserQueueState.ALL).exclude(person__in=User.objects.values("pk")).delete()
    call_command("clearsessions")
    # The list of browsers ends with the sessions.
    UserSession.objects.exclude(session_key__in=Session.objects.values("session_key")).delete()
    log.info("Purged: %s", counted)
    return counted


def _delete_old_cases() -> int:
    if not settings.RETENTION_DAYS:
        return 0
    deleted = 0
    before = timezone.now() - timedelta(days=settings.RETENTION_DAYS)
    old = Case.objects.filter(updated_at__lt=before, open_count=0)
    for pk in list(old.values_list("pk", flat=True)):
        with transaction.atomic():
            lock_case(pk, for_deletion=True)
            # It may have been changed in the meantime.
            if case := old.filter(pk=pk).first():
                services.remove_case(case, None)
                deleted += 1
    return deleted


def _delete_orphans(all_files: bool) -> int:
    left, belonging = orphans(older_than=ABANDONED)
    if left and (not belonging or len(left) > max(ORPHANS_MAX, belonging * ORPHANS_SHARE_MAX)) and not all_files:
        log.error(
            "%d files of the store belong to no slide, %d do; none was deleted. If this database is the right one and "
            "complete, delete them with `manage.py purge --all-files`.", len(left), belonging,
        )  # fmt: skip
        return 0
    return deletion.delete(left)


def _delete_partial_uploads() -> int:
    deleted = 0
    for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir():
        with _skipping_failures():
            if time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                deleted += 1
    return deleted


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Queue the daily purge. Every running cluster sends this signal every few seconds."""
    queue_once("cases.services.retention.purge", 24 * 3600)
