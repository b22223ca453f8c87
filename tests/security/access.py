"""Permissions: one row for each URL of the project, with the status for each kind of visitor.

``test_access.py`` asks every address as every visitor. A new address needs a row here, or the tests fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

VISITORS = ("anonymous", "other", "owner", "reviewer", "staff", "token", "expired")

Expected = tuple[int, int, int, int, int, int, int]

# Statuses in the order of VISITORS. ``other`` and ``staff`` (who may enter the admin but has no permissions there)
# have no access to the case; ``token`` is the owner's API token, ``expired`` an expired one.
# Pages accept only sessions, so tokens do not open them.
EVERYBODY: Expected = (200, 200, 200, 200, 200, 200, 200)
SIGNED_IN: Expected = (302, 200, 200, 200, 200, 302, 302)
READ: Expected = (302, 404, 200, 200, 404, 302, 302)
CHANGE: Expected = (302, 404, 302, 404, 404, 302, 302)
CONFIRM: Expected = (302, 404, 200, 404, 404, 302, 302)
REDIRECT: Expected = (302, 302, 302, 302, 302, 302, 302)


@dataclass(frozen=True)
class Row:
    """One URL with one method. ``target`` says which object its parameters refer to (see ``targets``)."""

    expected: Expected
    method: str = "get"
    target: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def _read(target: str, **kwargs: Any) -> Row:
    return Row(READ, target=target, kwargs=kwargs)


PORTAL: dict[str, Row | tuple[Row, ...]] = {
    "cases:home": Row((200, 302, 302, 302, 302, 200, 200)),
    "cases:history": Row(SIGNED_IN),
    "cases:bulk": Row(REDIRECT, "post", data={"action": "rerun"}),
    "cases:export_history": Row(SIGNED_IN, kwargs={"form": "csv"}),
    "cases:new": Row(SIGNED_IN),
    "cases:try": Row(REDIRECT, "post"),
    "cases:case": _read("case"),
    "cases:edit": Row(CONFIRM, target="case"),
    "cases:delete": (Row(CONFIRM, target="case"), Row(CHANGE, "post", "case")),
    "cases:add_slides": Row(CHANGE, "post", "case"),
    "cases:progress": _read("case"),
    "cases:rerun": Row(CHANGE, "post", "case"),
    "cases:review": Row((302, 404, 302, 302, 404, 302, 302), "post", "case", data={"reading": "benign"}),
    "cases:export": _read("case", form="json"),
    "cases:trail": _read("case"),
    "cases:trail_export": _read("case", form="csv"),
    "cases:report": _read("case"),
    # Anyone with a printed report may verify it; the page reveals nothing about the case.
    "cases:verify": Row(EVERYBODY, target="report"),
    "cases:slide": _read("slide"),
    "cases:image": _read("slide"),
    "cases:thumbnail": _read("slide"),
    "cases:map": _read("slide"),
    "cases:view": _read("slide"),
    "cases:tiles": _read("slide"),
    "cases:tile": _read("slide", level=10, column=1, row=0),
    "cases:activation": _read("slide"),
    "cases:patch": _read("slide", index=0),
    "cases:slide_rerun": Row(CHANGE, "post", "slide"),
    "cases:slide_delete": (Row(CONFIRM, target="slide"), Row(CHANGE, "post", "slide")),
    "cases:statistics": Row(SIGNED_IN),
    "cases:help": Row(EVERYBODY),
    "cases:model": Row(SIGNED_IN, target="model"),
    "cases:status": Row(SIGNED_IN),
    "cases:theme": Row(REDIRECT, "post", data={"theme": "dark"}),
    "cases:preferences": Row(SIGNED_IN),
    "cases:hide_hints": Row(REDIRECT, "post"),
    "cases:data": Row(SIGNED_IN),
    "cases:data_export": Row(SIGNED_IN),
    "cases:tokens": (Row(SIGNED_IN), Row(REDIRECT, "post", data={"name": "script", "days": "30"})),
    "cases:token_revoke": Row((302, 404, 302, 404, 404, 302, 302), "post", "api_token"),
}

_ENTRANCE: Expected = (200, 302, 302, 302, 302, 200, 200)
ACCOUNTS: dict[str, Row | tuple[Row, ...]] = {
    "account_login": Row(_ENTRANCE),
    "account_logout": (Row((302, 200, 200, 200, 200, 302, 302)), Row(REDIRECT, "post")),
    "account_inactive": Row(EVERYBODY),
    "account_signup": Row(_ENTRANCE),
    "account_reauthenticate": Row(SIGNED_IN),
    "account_email": Row(SIGNED_IN),
    "account_email_verification_sent": Row(EVERYBODY),
    "account_change_password": Row(SIGNED_IN),
    # For accounts without a password, which do not exist.
    "account_set_password": Row(REDIRECT),
    "account_reset_password": Row(EVERYBODY),
    "account_confirm_login_code": Row(REDIRECT),
    "account_confirm_email": Row(EVERYBODY, kwargs={"key": "no-such-key"}),
    "account_reset_password_from_key_done": Row(EVERYBODY),
    "account_reset_password_from_key": Row(EVERYBODY, kwargs={"uidb36": "1", "key": "no-such-key"}),
    "account_reset_password_done": Row(EVERYBODY),
    "mfa_index": Row(SIGNED_IN),
    "mfa_authenticate": Row(REDIRECT),
    "mfa_reauthenticate": Row(REDIRECT),
    # These first ask for the password again.
    "mfa_activate_totp": Row(REDIRECT),
    "mfa_deactivate_totp": Row((302, 404, 404, 404, 404, 302, 302)),
    "mfa_view_recovery_codes": Row((302, 404, 404, 404, 404, 302, 302)),
    "mfa_generate_recovery_codes": Row(REDIRECT),
    "mfa_download_recovery_codes": Row((302, 404, 404, 404, 404, 302, 302)),
    "usersessions_list": Row(SIGNED_IN),
}

OPERATIONS: dict[str, Row | tuple[Row, ...]] = {
    # No worker runs during these tests.
    "health": Row((503, 503, 503, 503, 503, 503, 503)),
    "health-live": Row(EVERYBODY),
    # Redirects from the administration's own page to the portal's.
    "admin-password": Row(REDIRECT),
    # Needs METRICS_TOKEN, which is not set here.
    "metrics": Row((404, 404, 404, 404, 404, 404, 404)),
}

# The API: the session of a signed-in browser or a token opens it.
_API_READ: Expected = (401, 404, 200, 200, 404, 200, 401)
_API_MINE: Expected = (401, 200, 200, 200, 200, 200, 401)


def _api(owner: int, target: str, method: str = "post", reviewer: int = 404, **data: Any) -> Row:
    return Row((401, 404, owner, reviewer, 404, owner, 401), method, target, data=data)


# Without a worker an upload is refused (503); without a file it is a mistake (400).
_NO_FILE: Expected = (401, 400, 400, 400, 400, 400, 401)
API: dict[str, Row | tuple[Row, ...]] = {
    "predict-single": Row(_NO_FILE, "post"),
    "predict-single-stream": Row(_NO_FILE, "post"),
    "predict-folder": Row(_NO_FILE, "post"),
    "api-index": Row(EVERYBODY),
    "schema": Row(EVERYBODY),
    "docs": Row(EVERYBODY),
    "api:cases": (
        Row(_API_MINE),
        Row((401, 201, 201, 201, 201, 201, 401), "post", data={"title": "From a script"}),
    ),
    "api:case": (
        Row(_API_READ, target="case"),
        _api(200, "case", "patch", title="Other"),
        _api(204, "case", "delete"),
    ),
    "api:case-result": Row(_API_READ, target="case"),
    "api:case-report": Row(_API_READ, target="case"),
    "api:case-analyses": _api(202, "case"),
    "api:case-slides": (Row(_API_READ, target="case"), _api(400, "case")),
    "api:case-reviews": (
        Row(_API_READ, target="case"),
        _api(201, "case", reviewer=201, reading="benign"),
    ),
    "api:slide": (Row(_API_READ, target="slide"), _api(204, "slide", "delete")),
    "api:slide-image": Row(_API_READ, target="slide"),
    "api:slide-analyses": (Row(_API_READ, target="slide"), _api(202, "slide")),
    "api:analyses": Row(_API_MINE),
    "api:analysis": Row(_API_READ, target="analysis"),
    "api:analysis-result": Row(_API_READ, target="analysis"),
    "api:analysis-patches": Row(_API_READ, target="analysis"),
    "api:analysis-map": Row(_API_READ, target="analysis"),
    "api:models": Row(_API_MINE),
    "api:model": Row(_API_MINE, target="model"),
    "api:me": Row(_API_MINE),
    "api:signed-in": Row((401, 204, 204, 204, 204, 204, 401)),
    # A token can't make tokens.
    # Only who confirmed their password just before makes one.
    "api:tokens": (Row(_API_MINE), Row((401, 403, 403, 403, 403, 403, 401), "post", data={"name": "script"})),
    # Nobody else's, not even a reviewer.
    "api:token": _api(204, "api_token", "delete"),
    # Five wrong passwords for one account, and it is locked for a while.
    "api:sign-in": Row((401, 401, 401, 401, 401, 429, 429), "post", data={"username": "alice", "password": "wrong"}),
}

TABLE = {**PORTAL, **ACCOUNTS, **API, **OPERATIONS}

#: Models whose pages a reviewer may open in the admin, and what is done there.
REVIEWERS_MAY = {
    f"admin:{model}_{page}"
    for model in ("cases_case", "cases_slide", "cases_review", "inference_analysis", "inference_modelversion")
    for page in ("changelist", "change", "history")
} | {"admin:cases_case_change"}


def names() -> list[str]:
    """Every address of the project, by name with its name spaces, without the admin's."""
    return [name for name, _ in walk(get_resolver().url_patterns) if not name.startswith("admin:")]


def admin_names() -> list[tuple[str, URLPattern]]:
    """The admin's addresses; the nameless ones only forward to the others."""
    found = walk(get_resolver().url_patterns)
    return [(name, pattern) for name, pattern in found if name.startswith("admin:") and name != "admin:None"]


def walk(patterns: list[URLPattern | URLResolver], space: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, f"{space}{pattern.namespace}:" if pattern.namespace else space)
        else:
            yield f"{space}{pattern.name}", pattern
