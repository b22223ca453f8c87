"""How many threads of a web process long work may hold, so that pages are always answered."""

from __future__ import annotations

import math
import threading
from collections import Counter
from enum import Enum

from django.conf import settings

from .models import User

#: Of this process's threads, in eighths: what one person's long work of all kinds may hold together.
OWN = 6


class Kind(Enum):
    """Long work, with the eighths of the threads that everybody's may hold, and one person's."""

    #: For a result or news of it.
    WAIT = ("wait", 4, 3)
    #: Drawing one takes seconds of a processor.
    REPORT = ("report", 2, 1)
    #: Images of others are being decoded.
    UPLOAD = ("upload", 8, OWN)

    @property
    def most(self) -> int:
        return max(1, settings.WEB_THREADS * self.value[1] // 8)

    @property
    def own(self) -> int:
        return _own(self.value[2])


def _own(eighths: int) -> int:
    return math.ceil(settings.WEB_THREADS * eighths / 8)


_changed = threading.Condition()
#: What is held, by kind and primary key of the person.
_held: Counter[tuple[Kind, int]] = Counter()


class Turn:
    """Permission to keep a thread for long work; ``taken`` is false where none came within ``patience`` seconds.

    Part of what there is stays for those who hold none: see :class:`Kind` and :data:`OWN`.
    """

    def __init__(self, user: User, kind: Kind, patience: float = 0.0) -> None:
        self._key = kind, user.pk
        with _changed:
            self.taken = _changed.wait_for(self._is_free, patience)
            _held[self._key] += self.taken

    def _is_free(self) -> bool:
        kind, person = self._key
        everybody = sum(count for (held, _), count in _held.items() if held is kind)
        everything = sum(count for (_, who), count in _held.items() if who == person)
        return everybody < kind.most and _held[self._key] < kind.own and everything < _own(OWN)

    def release(self) -> None:
        """Give it back; any number of times."""
        if self.taken:
            self.taken = False
            with _changed:
                _held[self._key] -= 1
                if not _held[self._key]:
                    del _held[self._key]
                _changed.notify_all()

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *args: object) -> None:
        self.release()
