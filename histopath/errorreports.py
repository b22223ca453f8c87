"""What a report of an error tells whoever operates this, and what it does not."""

from __future__ import annotations

from typing import Any

import sentry_sdk

from . import __version__
from .logging import without_key, without_row


def switch_on(dsn: str) -> None:
    """Report errors to Sentry: where in the code and at which address, but nothing that anybody typed or is named."""
    sentry_sdk.init(
        dsn,
        release=__version__,
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,
        # They would hold lines of the log and parts of the database's questions.
        max_breadcrumbs=0,
        before_send=_strip,
    )


def _strip(event: Any, hint: dict[str, Any]) -> Any:
    """Of the request only method and address: a query holds what was searched for, headers the page before."""
    request = event.get("request", {})
    event["request"] = {"method": request.get("method"), "url": without_key(request.get("url", ""))}
    if line := event.get("logentry"):
        event["logentry"] = {"message": without_key(line.get("formatted") or line.get("message") or "")}
    for error in event.get("exception", {}).get("values", []):
        error["value"] = without_row(error.get("value") or "")
    event.pop("user", None)
    event.pop("server_name", None)
    return event
