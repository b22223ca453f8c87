"""How many threads of a web process long work may hold, so that one person leaves some for others' pages."""

from __future__ import annotations

import math
import threading
from collections import Counter
from enum import Enum
from typing import Any

from django.conf import settings

from cases.models import User

#: Of this process's threads, in eighths: what one person's long work of all kinds may hold together, and everybody's.
OWN, ALL = 6, 7
#: Below so many threads none is left for waiting: pages and programs ask again instead.
FEW = 4


class Kind(Enum):
    """Long work, with the eighths of the threads that everybody's may hold, and one person's."""

    #: For a result or news of it.
    WAIT = ("wait", 4, 3)
    #: Drawing one takes seconds of a processor.
    REPORT = ("report", 2, 1)
    #: All that is kept of a person, written into a file first.
    EXPORT = ("export", 2, 1)
    #: Its images are decoded one after the other, while others' are.
    UPLOAD = ("upload", 4, 3)
    #: One that is decoded, or reduced, for whoever looks at it.
    PICTURE = ("picture", 4, 3)

    @property
    def most(self) -> int:
        return _everybody(self.value[1])

    @property
    def own(self) -> int:
        return _own(self.value[2], self.most)


def _everybody(eighths: int) -> int:
    return max(1, settings.WEB_THREADS * eighths // 8)


def _own(eighths: int, most: int) -> int:
    # Rounded up, but for where nothing would be left for others.
    return max(1, min(math.ceil(settings.WEB_THREADS * eighths / 8), most - 1))


_changed = threading.Condition()
#: How many threads each person works on or waits with, by primary key; and how many of each kind are worked on.
_asked: Counter[int] = Counter()
_taken: Counter[tuple[Kind, int]] = Counter()


def _less(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class ConcurrencySlot:
    """Permission to keep a thread for long work; ``taken`` is false where none came within ``patience`` seconds.

    Nobody waits who holds as many threads already, working or waiting, as one person may, nor where all together do:
    see :data:`OWN` and :data:`ALL`.
    """

    def __init__(self, user: User, kind: Kind, patience: float = 0.0) -> None:
        self._kind, self._person = kind, user.pk
        self.taken = False
        with _changed:
            if self._kind is Kind.WAIT and settings.WEB_THREADS < FEW:
                return
            if _asked.total() >= _everybody(ALL) or _asked[self._person] >= _own(OWN, _everybody(ALL)):
                return
            _asked[self._person] += 1
            self.taken = _changed.wait_for(self._is_free, patience)
            if self.taken:
                _taken[kind, self._person] += 1
            else:
                _less(_asked, self._person)

    def _is_free(self) -> bool:
        everybody = sum(count for (kind, _), count in _taken.items() if kind is self._kind)
        return everybody < self._kind.most and _taken[self._kind, self._person] < self._kind.own

    def release(self) -> None:
        """Give it back; any number of times."""
        with _changed:
            if self.taken:
                self.taken = False
                _less(_taken, (self._kind, self._person))
                _less(_asked, self._person)
                _changed.notify_all()

    def __enter__(self) -> ConcurrencySlot:
        return self

    def __exit__(self, *args: object) -> None:
        self.release()
