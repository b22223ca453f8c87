"""Tells failures of the database or the file store from invalid requests."""

from __future__ import annotations

import errno

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, IntegrityError

RETRY_SECONDS = 10
#: The disk is full, read-only or failing, or too many files are open.
STORAGE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}


def is_outdated(error: Exception) -> bool:
    """Whether the error means that a row was changed or deleted meanwhile, not that the database failed."""
    # Django reports a deleted row with the base class itself; drivers raise subclasses.
    return isinstance(error, IntegrityError | ObjectDoesNotExist) or (
        type(error) is DatabaseError and "did not affect" in str(error)
    )
