"""What can be done with a case, for pages, API and administration.

Views read requests and call ``services.<function>``; the functions are defined in the modules of this package.
"""

from cases.services.aggregation import (
    case_model,
    check_aggregate,
    derived,
    discordant_images,
    duplicates,
    is_mixed,
    natural_order,
    on_analysis_ended,
    refresh,
    verdict_counts,
)
from cases.services.analyses import analyse, request_again
from cases.services.cases import (
    add_slides,
    create_case,
    limits,
    propagate_magnification,
    remove_case,
    remove_slide,
    save_case,
    set_tags,
    update_case,
    upload_rules,
)
from cases.services.reviews import (
    assign,
    is_blind,
    next_unread,
    record_reading_changes,
    sign_review,
    visible_reviews,
)
from cases.services.timeline import record

__all__ = [
    "add_slides",
    "analyse",
    "assign",
    "case_model",
    "check_aggregate",
    "create_case",
    "derived",
    "discordant_images",
    "duplicates",
    "is_blind",
    "is_mixed",
    "limits",
    "natural_order",
    "next_unread",
    "on_analysis_ended",
    "propagate_magnification",
    "record",
    "record_reading_changes",
    "refresh",
    "remove_case",
    "remove_slide",
    "request_again",
    "save_case",
    "set_tags",
    "sign_review",
    "update_case",
    "upload_rules",
    "verdict_counts",
    "visible_reviews",
]
