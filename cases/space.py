"""How much disk must stay free, so that the database can still write."""

from __future__ import annotations

import errno
import os
import shutil

from django.conf import settings


def require_space(wanted: int = 0) -> None:
    """So many more bytes must leave the reserve free. Raises ``OSError`` (ENOSPC) where they don't."""
    if shutil.disk_usage(settings.FILE_UPLOAD_TEMP_DIR).free - wanted < settings.DISK_RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
