"""What can be done with a case, for pages, API and administration alike.

Views read requests and call ``services.<function>``; the functions live in the modules of this package.
"""

from cases.services.aggregation import (
    against_the_mean,
    case_model,
    derived,
    is_mixed,
    natural,
    on_analysis_ended,
    recount,
    refresh,
    twins,
    verdict_counts,
)
from cases.services.analyses import analyse, request_again
from cases.services.cases import (
    add_slides,
    hold_whole,
    limits,
    pass_on,
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
    "against_the_mean",
    "analyse",
    "assign",
    "case_model",
    "derived",
    "hold_whole",
    "is_blind",
    "is_mixed",
    "limits",
    "natural",
    "note_reading",
    "on_analysis_ended",
    "pass_on",
    "record",
    "recount",
    "refresh",
    "remove_case",
    "remove_slide",
    "request_again",
    "save_case",
    "set_tags",
    "sign_review",
    "twins",
    "verdict_counts",
    "visible_reviews",
    "wait_for_workers",
]
