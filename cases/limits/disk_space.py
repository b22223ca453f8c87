"""How much disk must stay free, so that the database can still write."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from django.conf import settings


def require_space(wanted: int = 0) -> None:
    """So many more bytes must leave the reserve free, where uploads arrive and where they are kept.

    Raises ``OSError`` (ENOSPC) where they don't.
    """
    for folder in (Path(settings.FILE_UPLOAD_TEMP_DIR), Path(settings.MEDIA_ROOT)):
        # The store's folder is made with its first file; with a bucket there is none.
        if folder.exists() and shutil.disk_usage(folder).free - wanted < settings.MIN_FREE_DISK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
