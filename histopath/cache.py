"""Redis as the cache, and each machine's own files while it is away: limits of rates go on counting, nothing fails."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.redis import RedisCache
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

log = logging.getLogger(__name__)

#: Seconds without an answer after which Redis counts as away, and that it is left alone then.
PATIENCE, PAUSE = 1.0, 10.0
#: When it may be asked again; of this process, as Django makes a cache for each thread.
_away_until = 0.0


class Cache(RedisCache):
    """``OPTIONS["FOLDER"]`` is where the files are kept."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        options = dict(params.get("OPTIONS", {}))
        folder, entries = options.pop("FOLDER"), options.pop("MAX_ENTRIES")
        at_once = Retry(NoBackoff(), 0)
        options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": at_once, **options}
        super().__init__(server, {**params, "OPTIONS": options})
        self._files = FileBasedCache(folder, {**params, "OPTIONS": {"MAX_ENTRIES": entries}})


def _with_files_behind(name: str) -> Any:
    def ask(self: Cache, *args: Any, **kwargs: Any) -> Any:
        global _away_until
        if time.monotonic() >= _away_until:
            try:
                return getattr(RedisCache, name)(self, *args, **kwargs)
            except RedisError as error:
                _away_until = time.monotonic() + PAUSE
                log.warning("The cache does not answer (%s); files take its place.", type(error).__name__)
        return getattr(self._files, name)(*args, **kwargs)

    return ask


for _name in (
    "add",
    "get",
    "set",
    "touch",
    "delete",
    "get_many",
    "set_many",
    "delete_many",
    "has_key",
    "incr",
    "clear",
):
    setattr(Cache, _name, _with_files_behind(_name))
