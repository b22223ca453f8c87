"""A person's data: exported as a file, or erased."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import IO, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from cases import audit, services
from cases.accounts import tokens
from cases.images.serving import FileMissing, open_stored
from cases.limits.disk_space import require_space
from cases.models import AuditEvent, Case, Report, Review, Slide, Submission, User
from cases.services import export
from cases.services.locking import lock_account
from inference.models import Analysis, UserQueueState

#: Name of the account that readings of erased people pass to: they are part of other people's records.
NOBODY = settings.ACCOUNT_USERNAME_BLACKLIST[0]


def write_export(user: User, out: IO[bytes]) -> None:
    """Write everything stored about a person as a ZIP file: ``data.json`` and their images."""
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
    missing = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for slide in Slide.objects.filter(case__owner=user):
            try:
                source = open_stored(slide.file)
            except FileMissing:
                missing.append(str(slide.pk))
                continue
            with source:
                # Checked for each file, because others write at the same time.
                require_space(source.size)
                with archive.open(f"images/{slide.pk}.png", "w") as copy:
                    shutil.copyfileobj(source, copy)
        archive.writestr("data.json", json.dumps({**data, "missing_images": missing}, indent=1))


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
    """Approximate size of the export in bytes: that of the images."""
    files = (slide.file for slide in Slide.objects.filter(case__owner=user))
    return sum(file.size for file in files if file.storage.exists(str(file.name)))


def erase(user: User) -> None:
    """Delete a person permanently: account, cases, files, tokens, sessions, and their name in the audit trail.

    Readings that they signed on other people's cases stay, under the name of :data:`NOBODY`.
    """
    if not connection.in_atomic_block:
        # One transaction per case, so that locks are short.
        for case in Case.objects.filter(owner=user):
            services.remove_case(case, user)
    with transaction.atomic():
        # See cases.services.locking: once the account is locked, it gets no further case.
        lock_account(user)
        if not User.objects.filter(pk=user.pk).exists():
            return
        for case in Case.objects.filter(owner=user):
            services.remove_case(case, user)
        # Locks these cases: transactions that changed them need the account, which is deleted below, until they end.
        list(Case.objects.for_change().filter(assigned_to=user).order_by("pk").values_list("pk"))
        nobody, _ = User.objects.get_or_create(
            username=NOBODY, defaults={"is_active": False, "password": "!", "email": ""}
        )
        if nobody.is_active:
            # A person has this name in spite of ACCOUNT_USERNAME_BLACKLIST; the readings must not become theirs.
            User.objects.filter(pk=nobody.pk).update(is_active=False)
        # Two erased readers become one account, so the case would otherwise be blind again.
        opened = Case.objects.filter(is_blinded=True, reviews__author=user)
        for case in opened.exclude(pk__in=Case.objects.still_blind().values("pk")).distinct():
            Case.objects.filter(pk=case.pk).update(is_blinded=False)
            audit.record(AuditEvent.Kind.EDITED, case, detail="Blinded double reading ended: two people have signed")
        Review.objects.filter(author=user).update(author=nobody)
        keys = list(UserSession.objects.filter(user=user).values_list("session_key", flat=True))
        Session.objects.filter(session_key__in=keys).delete()
        audit.erase_person(user)
        UserQueueState.objects.filter(person=user.pk).delete()
        user.delete()
