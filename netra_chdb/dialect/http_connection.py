"""HTTP connections that send a small request, head and body, in one piece, and read no longer than they may.

urllib3 sends the head first: for a short statement the second system call, and a server woken for half a request,
cost more than everything that SQLAlchemy does. Its time-out begins anew with each piece of an answer: a server that
stops in the middle of one would have all of it twice.
"""

from __future__ import annotations

import http.client
import io
import math
import time
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import parse_url

__all__ = ["OneServer", "send_in_one_piece"]

#: Bytes from which copying the parts together would cost more than another send.
_LARGE: Final = 65_536


class _Reader(io.RawIOBase):
    """What a socket receives, until a time."""

    until = math.inf

    def __init__(self, sock: Any, received: Any) -> None:
        self._sock = sock
        self._received = received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        if self.until < math.inf:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("no end of the answer in time")
            self._sock.settimeout(left)
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Response(http.client.HTTPResponse):
    fp: Any

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._reader = _Reader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    @property
    def until(self) -> float:
        """By the monotonic clock, when its last byte has to be here."""
        return self._reader.until

    @until.setter
    def until(self, ends: float) -> None:
        self._reader.until = ends


class _OnePiece(HTTPConnection):
    response_class = _Response
    _waiting: list[bytes] | None = None

    def request(self, *args: Any, **options: Any) -> None:
        self._waiting = []
        try:
            super().request(*args, **options)
            self._send_waiting()
        finally:
            self._waiting = None

    def send(self, data: Any) -> None:
        if self._waiting is not None and isinstance(data, bytes) and len(data) < _LARGE:
            self._waiting.append(data)
            return
        self._send_waiting()
        super().send(data)

    def _send_waiting(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            super().send(data)


class _OnePieceTLS(_OnePiece, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _OnePiece


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _OnePieceTLS


class OneServer(PoolManager):
    """Connections to one server, whose address is taken apart once and not for each request. Follows no redirect."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        send_in_one_piece(self)
        self._found: dict[str, tuple[HTTPConnectionPool, str]] = {}

    def request(self, method: str, url: str, body: Any = None, fields: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if fields is not None:
            return super().request(method, url, body=body, fields=fields, **options)
        base, mark, query = url.partition("?")
        pool, path = self._found.get(base) or self._find(base)
        options |= {"redirect": False, "assert_same_host": False}
        return pool.urlopen(method, f"{path}{mark}{query}", body=body, **options)

    def _find(self, base: str) -> tuple[HTTPConnectionPool, str]:
        found = self._found[base] = (self.connection_from_url(base), parse_url(base).request_uri)
        return found

    def clear(self) -> None:
        self._found.clear()
        super().clear()


def send_in_one_piece(pool: PoolManager) -> PoolManager:
    """Let ``pool`` open such connections from now on; returns it."""
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}
    return pool
