"""The last good answers, for when there is no new one: in the process, or in Redis for all of them.

A region of dogpile.cache holds them as bytes. A Redis that is away is left alone for a while and never fails a read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pybreaker
from dogpile.cache import make_region, register_backend
from dogpile.cache.api import NO_VALUE, BytesBackend
from dogpile.cache.backends.redis import RedisBackend

from netra_chdb.errors import ConfigError
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.codec import Unstorable, pack, unpack

__all__ = ["Answer", "AnswerStore", "BoundedMemory", "key_of"]

_VERSION: Final = 1
_MEMORY: Final = "netra_chdb.bounded_memory"
_REDIS: Final = "netra_chdb.redis"
_ENTRY_OVERHEAD: Final = 300  # bytes that Python itself takes for an entry, about
register_backend(_MEMORY, __name__, "BoundedMemory")  # type: ignore[no-untyped-call]
register_backend(_REDIS, __name__, "Redis")  # type: ignore[no-untyped-call]


def key_of(**parts: Any) -> str:
    """Return the key of an answer: a digest of everything that decides it, the user's scope among it."""
    text = json.dumps([_VERSION, parts], sort_keys=True, default=repr)
    return f"netra_chdb:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of ClickHouse's.

    Attributes:
        as_of: when ClickHouse was asked, aware UTC.
        columns: name and ClickHouse's type of each column.
        rows: as the driver gave them.
    """

    as_of: dt.datetime
    columns: Sequence[tuple[Any, ...]]
    rows: Sequence[Any]


class BoundedMemory(BytesBackend):
    """A backend of dogpile.cache that keeps at most so many bytes; what was not used for longest goes first.

    Args:
        arguments: ``max_bytes``.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._max_bytes = arguments["max_bytes"]
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def get_serialized(self, key: str) -> Any:
        """Return the bytes under ``key``, or ``NO_VALUE``."""
        with self._lock:
            if key not in self._entries:
                return NO_VALUE
            self._entries.move_to_end(key)
            return self._entries[key]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Put bytes under ``key``."""
        with self._lock:
            self._drop(key)
            self._entries[key] = value
            self.bytes += _size(key, value)
            while self.bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def delete(self, key: str) -> None:
        """Forget ``key``."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: str) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self.bytes -= _size(key, value)


class Redis(RedisBackend):
    """dogpile's backend, which warns with redis-py 8: it sends SETEX, which SET has replaced."""

    def set_serialized(self, key: str, value: bytes) -> None:
        """Put bytes under ``key``, for as long as was configured."""
        self.writer_client.set(key, value, ex=self.redis_expiration_time)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ENTRY_OVERHEAD


class AnswerStore:
    """Keeps the last good answer for each key.

    Args:
        redis_url: where Redis is; None keeps the answers in this process.
        max_bytes: what the process keeps at most; an answer above an eighth of it is not kept, in Redis neither.
        keep: seconds after which Redis forgets an answer.
        redis_timeout: seconds to wait for Redis.
        redis_pause: seconds without asking Redis after it did not answer.
        clock: seconds since 1970; answers are compared over processes.

    Attributes:
        remote: whether using it may wait for a network.

    Raises:
        ConfigError: ``redis_url`` is given, and the package ``redis`` is missing or cannot read it.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        max_bytes: int = 64 * 1024**2,
        keep: int = 86_400,
        redis_timeout: float = 0.25,
        redis_pause: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._largest = max_bytes // 8
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(("stored", "served", "missing", "unstorable", "failed"), 0))
        self.remote = redis_url is not None
        self._breaker = CircuitBreaker(1, redis_pause, 1, name="answers in Redis", max_reset_timeout=redis_pause)
        # The bytes are made and read here: dogpile would take an unreadable answer for an error of the reader's.
        self._region = make_region(serializer=_same, deserializer=_same)
        if redis_url is None:
            self._region.configure(_MEMORY, arguments={"max_bytes": max_bytes})
        else:
            self._region.configure(_REDIS, arguments=_redis_arguments(redis_url, keep, redis_timeout))

    def counters(self) -> dict[str, int]:
        """Return how often an answer was stored, served, missing (or too old), unstorable, and the store failed."""
        with self._lock:
            return dict(self._counts)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    @property
    def size(self) -> int | None:
        """Bytes that the answers take in this process; None in Redis."""
        held: int | None = getattr(self._region.backend, "bytes", None)
        return held

    @property
    def available(self) -> bool:
        """Whether the store answered when it was last used."""
        return self._breaker.current_state == pybreaker.STATE_CLOSED

    def now(self) -> dt.datetime:
        """Return the time that answers are dated with."""
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)

    def put(self, key: str, answer: Answer) -> bytes | None:
        """Keep an answer.

        Returns:
            It as bytes; None where it has no such form, or is too large.
        """
        try:
            header = {"key": key, "as_of": answer.as_of.timestamp()}
            payload = pack(header, answer.columns, answer.rows)
            if len(payload) > self._largest:
                raise Unstorable(f"{len(payload)} bytes")
        except Unstorable:
            self._count("unstorable")
            # An older answer would be wrong to keep: it is not the last one.
            self._call(self._region.delete, key)
            return None
        if self._call(self._region.set, key, payload):
            self._count("stored")
        return payload

    def get(self, key: str, max_age: float) -> Answer | None:
        """Return the answer under ``key``; None when there is none of the last ``max_age`` seconds."""
        found: list[Any] = []
        self._call(lambda: found.append(self._region.get(key, ignore_expiration=True)))
        if found and isinstance(found[0], bytes):
            try:
                answer = self.read(found[0], key)
            except Unstorable:
                self._count("failed")
            else:
                # One from the future has an age that nobody knows.
                if 0 <= (self.now() - answer.as_of).total_seconds() <= max_age:
                    self._count("served")
                    return answer
        self._count("missing")
        return None

    def close(self) -> None:
        """Close the connections to Redis; the store opens new ones when it is used again."""
        client = getattr(self._region.backend, "writer_client", None)
        if client is not None:
            client.close()

    @staticmethod
    def read(payload: bytes, key: str) -> Answer:
        """Return the answer that :meth:`put` made bytes of.

        Raises:
            Unstorable: it made something else, or of the answer to another question.
        """
        header, columns, rows = unpack(payload)
        as_of = header.get("as_of")
        if header.get("key") != key or not isinstance(as_of, int | float):
            raise Unstorable("the answer to another question")
        return Answer(dt.datetime.fromtimestamp(as_of, dt.UTC), columns, rows)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> bool:
        try:
            self._breaker.call(function, *arguments)
        except pybreaker.CircuitBreakerError:
            return False
        except Exception:  # whatever happens to the store, the read has its answer, or its own error
            self._count("failed")
            return False
        return True


def _same(value: Any) -> Any:
    return value


def _redis_arguments(url: str, keep: int, wait: float) -> dict[str, Any]:
    try:
        from redis.backoff import NoBackoff
        from redis.connection import parse_url
        from redis.retry import Retry
    except ImportError as error:
        problem = "REDIS_URL is set, and the package redis is missing: pip install 'netra-chdb[redis]'"
        raise ConfigError(problem) from error
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        # Not chained: the URL in it may hold a password.
        raise ConfigError("REDIS_URL (not shown) should be redis://, rediss:// or unix://, and a place") from None
    return {
        "url": url,
        "redis_expiration_time": keep,
        "socket_timeout": wait,
        # redis-py would repeat for seconds by itself.
        "connection_kwargs": {"socket_connect_timeout": wait, "retry": Retry(NoBackoff(), 0)},
    }
