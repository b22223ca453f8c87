"""Which errors mean that the database or the file store failed, and not the request."""

from __future__ import annotations

import errno

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, IntegrityError

RETRY_SECONDS = 10
#: The disk is full, read-only or failing, or no more files can be opened at once.
STORAGE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}


def is_outdated(error: Exception) -> bool:
    """Whether the database works and only the row that was written to is gone or different by now."""
    # Django reports a row that is gone with the base class itself, drivers use subclasses.
    return isinstance(error, IntegrityError | ObjectDoesNotExist) or (
        type(error) is DatabaseError and "did not affect" in str(error)
    )
