"""Error reports to Sentry, without personal data."""

from __future__ import annotations

from typing import Any

import sentry_sdk

from . import __version__
from .logging import redact_link_key, redact_row_values


def enable(dsn: str) -> None:
    """Report errors to Sentry, with traceback, method and URL, but no names and no user input."""
    sentry_sdk.init(
        dsn,
        release=__version__,
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,
        # Breadcrumbs would contain log lines and parts of SQL statements.
        max_breadcrumbs=0,
        before_send=_strip,
    )


def _strip(event: Any, hint: dict[str, Any]) -> Any:
    """Keep only method and URL of the request: the query string may hold search terms, the headers a referrer."""
    request = event.get("request", {})
    event["request"] = {"method": request.get("method"), "url": redact_link_key(request.get("url", ""))}
    if line := event.get("logentry"):
        event["logentry"] = {"message": redact_link_key(line.get("formatted") or line.get("message") or "")}
    for error in event.get("exception", {}).get("values", []):
        error["value"] = redact_row_values(error.get("value") or "")
    event.pop("user", None)
    event.pop("server_name", None)
    return event
