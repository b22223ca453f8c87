"""Automatic audit events: every view of case data, every sign-in, every change in the administration."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth import signals as auth
from django.db.models.signals import post_delete, post_save, pre_save
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import ResolverMatch
from django.utils import timezone

from cases import audit
from cases.accounts.adapters import matching_users
from cases.accounts.sessions import client_ip
from cases.accounts.signals import password_accepted
from cases.models import ApiToken, AuditEvent, Case, Report, Review, Slide, User
from inference.models import Analysis

#: URL names whose GET shows case data: the model that their ``pk`` belongs to, and the text of the audit event.
VIEWS = {
    "cases:case": ("case", "Case"),
    "cases:trail": ("case", "Trail"),
    "cases:slide": ("slide", "Slide"),
    "cases:image": ("slide", "Image file"),
    "cases:view": ("slide", "Image"),
    "cases:tiles": ("slide", "Image, in tiles"),
    "cases:report": ("case", "Report"),
    "api:case": ("case", "Case, by API"),
    "api:case-result": ("case", "Result, by API"),
    "api:case-report": ("case", "Report, by API"),
    "api:case-slides": ("case", "Slides, by API"),
    "api:case-reviews": ("case", "Readings, by API"),
    "api:slide": ("slide", "Slide, by API"),
    "api:slide-image": ("slide", "Image file, by API"),
    "api:slide-analyses": ("slide", "Analyses, by API"),
    "api:analysis": ("analysis", "Analysis, by API"),
    "api:analysis-result": ("analysis", "Result, by API"),
    "api:analysis-patches": ("analysis", "Patches, by API"),
    "api:analysis-map": ("analysis", "Map, by API"),
    "admin:cases_case_change": ("case", "Case, in the administration"),
    "admin:cases_slide_change": ("slide", "Slide, in the administration"),
    "admin:cases_review_change": ("review", "Reading, in the administration"),
    "admin:inference_analysis_change": ("analysis", "Analysis, in the administration"),
    "admin:cases_report_change": ("report", "Report, in the administration"),
    "admin:cases_case_delete": ("case", "Case, to be deleted in the administration"),
    "admin:cases_slide_delete": ("slide", "Slide, to be deleted in the administration"),
    "admin:cases_case_history": ("case", "Case’s changes, in the administration"),
    "admin:cases_slide_history": ("slide", "Slide’s changes, in the administration"),
    "admin:cases_review_history": ("review", "Reading’s changes, in the administration"),
    "admin:cases_report_history": ("report", "Report’s changes, in the administration"),
    "admin:inference_analysis_history": ("analysis", "Analysis’s changes, in the administration"),
}
#: Lists in the administration that show case data, with the case of a row. Recorded for other people's cases.
LISTS: dict[str, Callable[[Any], uuid.UUID]] = {
    "admin:cases_case_changelist": lambda row: row.pk,
    "admin:cases_slide_changelist": lambda row: row.case_id,
    "admin:cases_review_changelist": lambda row: row.case_id,
    "admin:cases_report_changelist": lambda row: row.case_id,
    "admin:inference_analysis_changelist": lambda row: row.slide.case_id,
}
#: Requests that a slide's page makes by itself: recorded only if the same person has not viewed that slide recently.
PARTS = {
    "cases:map": "Map",
    "cases:activation": "Activation map",
    "cases:patch": "Patch",
    "cases:tile": "Image, in tiles",
}
RECENTLY = timedelta(hours=1)


class AuditMiddleware:
    """Records what a request showed, with its network address. Must follow the authentication middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with audit.client_address(client_ip(request)):
            answer = self.get_response(request)
            try:
                _record(request, answer)
            except BaseException:
                # A response whose audit event could not be written is not sent.
                answer.close()
                raise
            return answer


def _record(request: HttpRequest, answer: HttpResponseBase) -> None:
    match = request.resolver_match
    if match is None or not isinstance(request.user, User):
        return
    # The API reports a failed analysis with status 500, and the result ``out_of_domain`` instead of a map.
    is_verdict = getattr(answer, "problem", "") == "out_of_domain"
    shown = answer.status_code < 300 or answer.status_code == 500 or is_verdict
    # After an invalid form, the administration shows the form with its content again.
    again = request.method == "POST" and match.view_name.startswith("admin:") and match.view_name.endswith("_change")
    if shown and (request.method == "GET" or again):
        _record_view(request.user, match)
    if match.view_name in LISTS:
        context = getattr(answer, "context_data", None) or {}
        # The list itself, or the confirmation page of an action on some of its rows.
        rows = context["cl"].result_list if "cl" in context else context.get("queryset", [])
        if cases := {LISTS[match.view_name](row) for row in rows}:
            note_list(request.user, cases, "List, in the administration")
    # The administration answers with a page when an action still has to be confirmed.
    is_done = answer.status_code < 400 and not isinstance(answer, TemplateResponse)
    if request.method == "POST" and is_done and (event := _form_event(request, match)):
        audit.record(event[0], actor=request.user, detail=event[1])


def _form_event(request: HttpRequest, match: ResolverMatch) -> tuple[AuditEvent.Kind, str] | None:
    """Kind and detail of the event for a submitted form, if no signal reports it."""
    name = match.view_name
    if name == "usersessions_list":
        return AuditEvent.Kind.ACCOUNT, "Other sessions ended"
    if name.startswith("admin:") and name.endswith("_changelist"):
        if (action := _action(request)) not in match.func.model_admin.get_actions(request):  # type: ignore[attr-defined]  # set by the admin
            return None
        table, chosen = name[len("admin:") : -len("_changelist")], request.POST.getlist("_selected_action")
        if not chosen:
            return None
        count = "all" if request.POST.get("select_across", "0").lower() not in ("", "0", "false") else str(len(chosen))
        return AuditEvent.Kind.ADMIN, f"Action {action}: {count} of {table}"
    return None


def _action(request: HttpRequest) -> str:
    """The requested action of a list, from one of its two forms, determined as Django does."""
    sent = request.POST.getlist("action") or [""]
    try:
        return sent[int(request.POST.get("index", 0))]
    except ValueError:
        return sent[0]
    except IndexError:
        return sent[-1]


def _record_view(user: User, match: ResolverMatch) -> None:
    if match.view_name in PARTS:
        kind, what = "slide", PARTS[match.view_name]
    elif match.view_name in VIEWS:
        kind, what = VIEWS[match.view_name]
    else:
        return
    # URLs of the administration carry a quoted string instead of a UUID.
    pk = match.kwargs.get("pk") or uuid.UUID(unquote(match.kwargs["object_id"]))
    if match.view_name in PARTS and _was_viewed_recently(user, pk):
        return
    about = None if kind == "case" else pk
    audit.record(AuditEvent.Kind.VIEWED, _case_of(kind, pk), user, what, about=about)


def _case_of(kind: str, pk: uuid.UUID) -> uuid.UUID | None:
    match kind:
        case "slide":
            return Slide.objects.filter(pk=pk).values_list("case_id", flat=True).first()
        case "analysis":
            return Analysis.objects.filter(pk=pk).values_list("slide__case_id", flat=True).first()
        case "review":
            return Review.objects.filter(pk=pk).values_list("case_id", flat=True).first()
        case "report":
            return Report.objects.filter(pk=pk).values_list("case_id", flat=True).first()
    return pk


def _was_viewed_recently(user: User, slide: uuid.UUID) -> bool:
    """Whether a recent event already records that this person viewed the slide."""
    views = AuditEvent.objects.filter(kind=AuditEvent.Kind.VIEWED, case=_case_of("slide", slide), about=slide)
    return views.filter(actor__user=user, at__gte=timezone.now() - RECENTLY).exists()


def note_list(user: User, cases: Collection[uuid.UUID], what: str = "In a list, by API") -> None:
    """Record that a list with details of these cases was viewed, for each case of another owner."""
    others = Case.objects.filter(pk__in=cases).exclude(owner=user).values_list("pk", flat=True)
    audit.record_all(AuditEvent.Kind.VIEWED, list(others), user, what)


def connect() -> None:
    """Connect the signals of accounts, tokens and the administration."""
    auth.user_logged_in.connect(_on_signed_in, dispatch_uid="trail")
    auth.user_logged_out.connect(_on_signed_out, dispatch_uid="trail")
    auth.user_login_failed.connect(_on_refused, dispatch_uid="trail")
    password_accepted.connect(_on_password_accepted, dispatch_uid="trail")
    for signal, text in (
        (account.user_signed_up, "Account opened"),
        (account.password_set, "Password set"),
        (account.password_changed, "Password changed"),
        (account.password_reset, "Password reset"),
        (account.email_changed, "E-mail address changed"),
        (account.email_added, "E-mail address added"),
        (account.email_removed, "E-mail address removed"),
        (mfa.authenticator_added, "Second factor added"),
        (mfa.authenticator_reset, "Recovery codes renewed"),
        (mfa.authenticator_removed, "Second factor removed"),
    ):
        signal.connect(_on_account(text), weak=False, dispatch_uid="trail")
    for signal in (account.password_changed, account.password_reset):
        signal.connect(_on_new_password, dispatch_uid="tokens")
    post_save.connect(_on_token_saved, sender=ApiToken, dispatch_uid="trail")
    post_delete.connect(_on_token_deleted, sender=ApiToken, dispatch_uid="trail")
    account.email_confirmed.connect(_on_email_confirmed, dispatch_uid="trail")
    mfa.authentication_failed.connect(_on_wrong_code, dispatch_uid="trail")
    pre_save.connect(audit.redact_log_entry, sender=LogEntry, dispatch_uid="trail")
    post_save.connect(_on_admin, sender=LogEntry, dispatch_uid="trail")


def _on_signed_in(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    audit.record(AuditEvent.Kind.SIGNED_IN, actor=user)


def _on_password_accepted(sender: Any, user: User, **kwargs: Any) -> None:
    audit.record(AuditEvent.Kind.ASKED, actor=user)


def _on_signed_out(sender: Any, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    if user is not None:
        audit.record(AuditEvent.Kind.SIGNED_OUT, actor=user)


def _on_refused(sender: Any, credentials: dict[str, Any], **kwargs: Any) -> None:
    # The entered name is not stored: it may be a password typed into the wrong field.
    for user in matching_users(credentials) or [None]:  # type: ignore[list-item]  # None: no account
        audit.record(AuditEvent.Kind.REFUSED, actor=user)


def _on_wrong_code(sender: Any, user: User, **kwargs: Any) -> None:
    audit.record(AuditEvent.Kind.REFUSED, actor=user, detail="One-time code")


def _on_email_confirmed(sender: Any, email_address: EmailAddress, **kwargs: Any) -> None:
    audit.record(AuditEvent.Kind.ACCOUNT, actor=email_address.user, detail="E-mail address confirmed")


def _on_new_password(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    if user.tokens_ended:
        messages.info(request, "Your API tokens were revoked with the old password. Create new ones if you need them.")
    others = EmailAddress.objects.filter(user=user).exclude(email__iexact=user.email).values_list("email", flat=True)
    if others:
        # Someone who knew the old password may have added an address, and could reset the new password with it.
        messages.warning(
            request, f"Your account also has {', '.join(others)}. Under E-mail, remove addresses you don't recognise."
        )


def _on_account(text: str) -> Callable[..., None]:
    def listen(sender: Any, user: User, **kwargs: Any) -> None:
        audit.record(AuditEvent.Kind.ACCOUNT, actor=user, detail=text)

    return listen


def _on_token_saved(sender: Any, instance: ApiToken, created: bool, **kwargs: Any) -> None:
    if created:
        audit.record(AuditEvent.Kind.ACCOUNT, actor=instance.user, detail="API token made", about=instance.pk)


def _on_token_deleted(sender: Any, instance: ApiToken, origin: Any = None, **kwargs: Any) -> None:
    # Not recorded when the whole account is deleted.
    if isinstance(origin, ApiToken) or getattr(origin, "model", None) is ApiToken:
        audit.record(AuditEvent.Kind.ACCOUNT, actor=instance.user, detail="API token revoked", about=instance.pk)


def _on_admin(sender: Any, instance: LogEntry, **kwargs: Any) -> None:
    user = instance.user
    assert isinstance(user, User)
    what = f"{instance.get_action_flag_display()}: {instance.content_type or ''} {instance.object_id or ''}"
    audit.record(AuditEvent.Kind.ADMIN, _case_of_entry(instance), user, what)


def _case_of_entry(entry: LogEntry) -> uuid.UUID | None:
    kinds = {Case: "case", Slide: "slide", Review: "review"}
    kind = kinds.get(entry.content_type.model_class()) if entry.content_type else None  # type: ignore[arg-type]  # any model, or None
    return _case_of(kind, uuid.UUID(str(entry.object_id))) if kind and entry.object_id else None
