"""Text compared without regard to case and to how its accents are composed, alike on SQLite and PostgreSQL."""

from __future__ import annotations

import unicodedata
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import CharField, TextField, Transform


def composed(text: str) -> str:
    """``text`` in Unicode's composed form (NFC); macOS names files in the other."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """What :class:`Folded` makes of ``text``. Upper case, because ß and final sigma have one form there."""
    return composed(composed(text).upper())


@CharField.register_lookup
@TextField.register_lookup
class Folded(Transform):
    """``title__folded__contains=folded(word)``."""

    lookup_name = "folded"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return super().as_sql(compiler, connection, function="HISTOPATH_FOLDED", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Of ICU, because the database's own collation may know no letters beyond ASCII.
        template = 'NORMALIZE(UPPER(NORMALIZE(%(expressions)s, NFC) COLLATE "und-x-icu"), NFC)'
        return super().as_sql(compiler, connection, template=template, **context)


def _add_function(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if connection.vendor == "sqlite":
        # No searched column is null.
        connection.connection.create_function("HISTOPATH_FOLDED", 1, folded, deterministic=True)


connection_created.connect(_add_function, dispatch_uid="cases.folding")
