"""What can be done with a case, for pages, API and administration alike.

Views read requests and call ``services.<function>``; the functions live in the modules of this package.
"""

from cases.services.aggregation import (
    case_model,
    check_aggregate,
    derived,
    discordant_images,
    duplicates,
    is_mixed,
    natural,
    on_analysis_ended,
    refresh,
    verdict_counts,
)
from cases.services.analyses import analyse, request_again
from cases.services.cases import (
    add_slides,
    limits,
    lock_whole_case,
    propagate_magnification,
    remove_case,
    remove_slide,
    save_case,
    set_tags,
    wait_for_workers,
)
from cases.services.reviews import assign, is_blind, note_reading, sign_review, visible_reviews
from cases.services.timeline import record

__all__ = [
    "add_slides",
    "analyse",
    "assign",
    "case_model",
    "check_aggregate",
    "derived",
    "discordant_images",
    "duplicates",
    "is_blind",
    "is_mixed",
    "limits",
    "lock_whole_case",
    "natural",
    "note_reading",
    "on_analysis_ended",
    "propagate_magnification",
    "record",
    "refresh",
    "remove_case",
    "remove_slide",
    "request_again",
    "save_case",
    "set_tags",
    "sign_review",
    "verdict_counts",
    "visible_reviews",
    "wait_for_workers",
]
