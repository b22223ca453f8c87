"""Who did and saw what: the events, the chain that seals them, and how they are forgotten."""

from cases.audit.log import (
    coming_from,
    erase_addresses,
    erase_details,
    erase_log_entries,
    erase_name,
    erase_person,
    housekeeping,
    identity_of,
    keep_no_name,
    record,
    record_all,
    rows,
    seal,
    verify,
)

__all__ = [
    "coming_from",
    "erase_addresses",
    "erase_details",
    "erase_log_entries",
    "erase_name",
    "erase_person",
    "housekeeping",
    "identity_of",
    "keep_no_name",
    "record",
    "record_all",
    "rows",
    "seal",
    "verify",
]
