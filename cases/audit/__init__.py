"""The audit trail: who did and saw what, the hash chain over its events, and their erasure."""

from cases.audit.log import (
    add_checkpoint,
    client_address,
    erase_addresses,
    erase_details,
    erase_log_entries,
    erase_name,
    erase_person,
    housekeeping,
    identity_of,
    record,
    record_all,
    redact_log_entry,
    rows,
    verify,
)

__all__ = [
    "add_checkpoint",
    "client_address",
    "erase_addresses",
    "erase_details",
    "erase_log_entries",
    "erase_name",
    "erase_person",
    "housekeeping",
    "identity_of",
    "record",
    "record_all",
    "redact_log_entry",
    "rows",
    "verify",
]
