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
    REPORT = ("report", 2, 2)
    #: All that is kept of a person, written into a file first.
    EXPORT = ("export", 2, 1)
    #: Its images are decoded one after the other, while others' are.
    UPLOAD = ("upload", 4, 3)

    @property
    def most(self) -> int:
        return max(1, settings.WEB_THREADS * self.value[1] // 8)

    @property
    def own(self) -> int:
        return _own(self.value[2])


def _own(eighths: int) -> int:
    return math.ceil(settings.WEB_THREADS * eighths / 8)


_changed = threading.Condition()
#: Who works or waits for that, by kind and primary key of the person; and who works.
_asked: Counter[tuple[Kind, int]] = Counter()
_taken: Counter[Kind] = Counter()


class Turn:
    """Permission to keep a thread for long work; ``taken`` is false where none came within ``patience`` seconds.

    Nobody is waited for by whoever has as much already as one person may: see :class:`Kind` and :data:`OWN`.
    """

    def __init__(self, user: User, kind: Kind, patience: float = 0.0) -> None:
        self._kind, self._key = kind, (kind, user.pk)
        self.taken = False
        with _changed:
            everything = sum(count for (_, person), count in _asked.items() if person == user.pk)
            if _asked[self._key] >= kind.own or everything >= _own(OWN):
                return
            _asked[self._key] += 1
            self.taken = _changed.wait_for(lambda: _taken[kind] < kind.most, patience)
            if self.taken:
                _taken[kind] += 1
            else:
                self._leave()

    def _leave(self) -> None:
        _asked[self._key] -= 1
        if not _asked[self._key]:
            del _asked[self._key]

    def release(self) -> None:
        """Give it back; any number of times."""
        with _changed:
            if self.taken:
                self.taken = False
                _taken[self._kind] -= 1
                self._leave()
                _changed.notify_all()

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *args: object) -> None:
        self.release()
