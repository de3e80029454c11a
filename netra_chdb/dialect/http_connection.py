"""HTTP connections that send a small request, head and body, in one piece.

urllib3 sends the head first: for a short statement the second system call, and a server woken for half a request,
cost more than everything that SQLAlchemy does.
"""

from __future__ import annotations

from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["send_in_one_piece"]

#: Bytes from which copying the parts together would cost more than another send.
_LARGE: Final = 65_536


class _OnePiece(HTTPConnection):
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


def send_in_one_piece(pool: PoolManager) -> PoolManager:
    """Let ``pool`` open such connections from now on; returns it."""
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}
    return pool
