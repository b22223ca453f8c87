"""What a person may ask of their data: all of it as a file, or that it be gone. And what goes by itself in time."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.files.storage import Storage, default_storage
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from cases import audit, services
from cases.accounts import tokens
from cases.images import deletion, intake
from cases.limits.disk_space import require_space
from cases.limits.housekeeping import queue_once
from cases.models import AuditEvent, Case, Report, Review, Slide, Submission, User
from cases.services import export
from inference.models import Analysis, UserQueueState

log = logging.getLogger(__name__)

#: The account that signs the readings of people who were erased: they are part of others' records.
NOBODY = settings.ACCOUNT_USERNAME_BLACKLIST[0]
#: Seconds after which a file of the store that no row knows, or an upload half received, counts as left behind.
ABANDONED = 24 * 3600
#: So many files without a slide, or such a part of those with one, are taken for what crashes left, and deleted.
FEW, FEW_OF = 20, 0.05
FOLDERS = ("slides", "thumbnails", "previews")


def write_export(user: User, out: IO[bytes]) -> None:
    """Everything that is kept of a person, as ZIP: ``data.json`` and their images."""
    cases = export.with_everything(Case.objects.filter(owner=user))
    identity = audit.identity_of(user)
    data = {
        "exported_at": timezone.now().isoformat(),
        "account": {
            "username": user.username,
            "name": user.get_full_name(),
            "email": user.email,
            "further_addresses": [
                {"email": other.email, "verified": other.verified}
                for other in EmailAddress.objects.filter(user=user).exclude(email=user.email)
            ],
            "joined": user.date_joined.isoformat(),
            "last_sign_in": user.last_login.isoformat() if user.last_login else None,
            "preferences": {
                "theme": user.theme,
                "time_zone": user.time_zone,
                "default_magnification": user.default_magnification,
                "show_hints": user.show_hints,
            },
            "second_factors": [
                factor.get_type_display() for factor in Authenticator.objects.filter(user=user).order_by("created_at")
            ],
            "sessions": [
                {"address": held.ip, "browser": held.user_agent, "seen": held.last_seen_at.isoformat()}
                for held in UserSession.objects.filter(user=user)
            ],
        },
        "api_tokens": [{"name": token.name, "created": token.created.isoformat()} for token in tokens.of(user)],
        "cases": [_case(case, user) for case in cases],
        "assigned_cases": [str(pk) for pk in user.assigned_cases.values_list("pk", flat=True)],
        "api_calls": [
            {
                "sent": sent.created_at.isoformat(),
                "key": sent.key,
                "case": sent.case_id and str(sent.case_id),
                "rejected": sent.rejected,
            }
            for sent in Submission.objects.filter(user=user)
        ],
        "reports": [
            {"case": str(made.case_id), "made": made.created_at.isoformat(), "sha256": made.sha256}
            for made in Report.objects.filter(author=user)
        ],
        "readings": [
            {"case": str(review.case_id), **export.review_data(review)}
            for review in Review.objects.filter(author=user).select_related("author")
        ],
        "trail": list(audit.rows(AuditEvent.objects.filter(Q(actor=identity) | Q(case__owner=user)))),
    }
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("data.json", json.dumps(data, indent=1))
        for slide in Slide.objects.filter(case__owner=user):
            if not slide.file.storage.exists(str(slide.file.name)):
                continue
            # Others write at the same time.
            require_space(slide.file.size)
            with slide.file.open() as source, archive.open(f"images/{slide.pk}.png", "w") as copy:
                shutil.copyfileobj(source, copy)


def _case(case: Case, owner: User) -> dict[str, Any]:
    earlier = Analysis.with_model().filter(slide__case=case, is_current=False).order_by("queued_at")
    return export.case_data(case, owner) | {
        "overlap": case.overlap,
        "assigned_to": str(case.assigned_to) if case.assigned_to else None,
        "blinded": case.is_blinded,
        "teaching": case.is_teaching,
        "earlier_analyses": [
            {"slide": str(analysis.slide_id)} | (export.analysis_data(analysis) or {}) for analysis in earlier
        ],
    }


def export_size(user: User) -> int:
    """About how many bytes the export has: those of the images."""
    files = (slide.file for slide in Slide.objects.filter(case__owner=user))
    return sum(file.size for file in files if file.storage.exists(str(file.name)))


def erase(user: User) -> None:
    """Delete a person for good: cases, files, tokens, sessions, and who they were in the trail.

    Readings that they signed in others' cases stay, under the name of :data:`NOBODY`.
    """
    if not connection.in_atomic_block:
        # One by one, so that nobody waits long.
        for case in Case.objects.filter(owner=user):
            services.remove_case(case, user)
    with transaction.atomic():
        if not _hold(user):
            return
        nobody, _ = User.objects.get_or_create(
            username=NOBODY, defaults={"is_active": False, "password": "!", "email": ""}
        )
        if nobody.is_active:
            # Somebody got the name in spite of ACCOUNT_USERNAME_BLACKLIST, and shall not get the readings.
            User.objects.filter(pk=nobody.pk).update(is_active=False)
        # Two readers who are both erased are one, and the case would seem to wait for a second.
        opened = Case.objects.filter(is_blinded=True, reviews__author=user)
        for case in opened.exclude(pk__in=Case.objects.still_blind().values("pk")).distinct():
            Case.objects.filter(pk=case.pk).update(is_blinded=False)
            audit.record(AuditEvent.Kind.EDITED, case, detail="Blinded double reading over: two have signed")
        Review.objects.filter(author=user).update(author=nobody)
        keys = list(UserSession.objects.filter(user=user).values_list("session_key", flat=True))
        Session.objects.filter(session_key__in=keys).delete()
        audit.erase_person(user)
        # Not within: who queues an image holds this before the case.
        transaction.on_commit(UserQueueState.objects.filter(person=user.pk).delete, robust=True)
        user.delete()


def _hold(user: User) -> bool:
    """Hold an account and remove its cases, so that nobody can give it anything new. False where it is gone already.

    No case is waited for while the account is held so that none can name it: who changes one needs that at the end.
    """
    # As who signs does it: the account before the case.
    if User.objects.select_for_update(no_key=True).filter(pk=user.pk).first() is None:
        return False
    while True:
        for case in Case.objects.filter(owner=user):
            services.remove_case(case, user)
        list(Case.objects.for_change().filter(assigned_to=user).order_by("pk").values_list("pk"))
        mark = transaction.savepoint()
        User.objects.select_for_update().get(pk=user.pk)
        if not Case.objects.filter(owner=user).exists():
            transaction.savepoint_commit(mark)
            return True
        transaction.savepoint_rollback(mark)


def orphans(storage: Storage = default_storage, older_than: float = 0) -> tuple[list[str], int]:
    """Files of the store that belong to no slide and are older than so many seconds; and how many do belong to one.

    Those that are to go anyway (:mod:`cases.images.deletion`) are neither.
    """
    known = {name for slide in Slide.objects.iterator() for name in intake.files_of(slide)}
    going = set(deletion.names())
    before = timezone.now() - timedelta(seconds=older_than)
    found, belonging = [], 0
    for folder in FOLDERS:
        for name in _walk(storage, folder):
            if name in known:
                belonging += 1
                continue
            if name in going:
                continue
            with _going_on():
                if storage.get_modified_time(name) <= before:
                    found.append(name)
    return found, belonging


@contextlib.contextmanager
def _going_on() -> Iterator[None]:
    """One file that can't be looked at or deleted holds up no other."""
    try:
        yield
    except FileNotFoundError:
        pass  # others delete files, too
    except OSError as error:
        log.warning("A file was left where it is: %s", error)


def _walk(storage: Storage, folder: str) -> Iterator[str]:
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{file}" for file in files)
    for inner in folders:
        yield from _walk(storage, f"{folder}/{inner}")


def purge(all_files: bool = False) -> dict[str, int]:
    """What goes by itself: cases past their retention, addresses, ended sessions, files left behind.

    Files of no slide are left behind by crashes, a few at a time. Where there are many, the database is more likely not
    the store's (an empty or an older one, or another's store), and they stay unless ``all_files`` says otherwise.
    """
    counted = {"cases": 0, "addresses": 0, "files": 0, "uploads": 0}
    now = timezone.now()
    if settings.RETENTION_DAYS:
        old = Case.objects.filter(updated_at__lt=now - timedelta(days=settings.RETENTION_DAYS), open_count=0)
        for pk in list(old.values_list("pk", flat=True)):
            with transaction.atomic():
                services.lock_whole_case(pk)
                # It may have been taken up again meanwhile.
                if case := old.filter(pk=pk).first():
                    services.remove_case(case, None)
                    counted["cases"] += 1
    if settings.IP_RETENTION_DAYS:
        counted["addresses"] = audit.erase_addresses(now - timedelta(days=settings.IP_RETENTION_DAYS))
    counted["files"] = deletion.again()
    left, belonging = orphans(older_than=ABANDONED)
    if left and (not belonging or len(left) > max(FEW, belonging * FEW_OF)) and not all_files:
        log.error(
            "%d files of the store belong to no slide, %d do: none was deleted. If the database is the right one and "
            "whole, `manage.py purge --all-files` deletes them.", len(left), belonging,
        )  # fmt: skip
        left = []
    counted["files"] += deletion.delete(left)
    for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir():
        with _going_on():
            if time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                counted["uploads"] += 1
    # A worker that was about to begin something for an account that went may have noted it again.
    UserQueueState.objects.exclude(person=UserQueueState.ALL).exclude(person__in=User.objects.values("pk")).delete()
    call_command("clearsessions")
    # With them goes what is known of the browsers they were held by.
    UserSession.objects.exclude(session_key__in=Session.objects.values("session_key")).delete()
    log.info("Purged: %s", counted)
    return counted


def housekeeping(sender: Any, **kwargs: Any) -> None:
    """Have a worker purge once a day; called by every running cluster every few seconds."""
    queue_once("cases.services.privacy.purge", 24 * 3600)
