"""The health API on a port of its own."""

from __future__ import annotations

import asyncio
import gc
import socket

import uvicorn

from netra_chdb.health.http_api import Watched, application
from netra_chdb.health.monitor import HealthMonitor

__all__ = ["listen", "serve"]


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections; they wait in it until :func:`serve`.

    uvicorn would end the process when it cannot have the port, with a status and a log line of its own.

    Raises:
        OSError: the port is taken, the host is not this machine's, or has no address; the text names both.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; name another --host or --port") from error
    return listener


def serve(data_access: Watched, listener: socket.socket) -> None:
    """Serve :func:`~netra_chdb.health.http_api.application` until the process is told to end by SIGTERM or SIGINT.

    Args:
        data_access: what is looked at.
        listener: where; see :func:`listen`.
    """
    config = uvicorn.Config(
        application(data_access),
        log_level="warning",
        # Not needed here, and each costs a request some of the 0.2 ms that it takes.
        access_log=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=5,
    )
    config.load()
    # A full collection would go through all that was imported, and hold up every answer for 0.1 s.
    gc.collect()
    gc.freeze()
    _Server(config, data_access.monitor).run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, monitor: HealthMonitor) -> None:
        super().__init__(config)
        self._monitor = monitor

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Streams end with what they tell of. uvicorn would wait for them, then cancel them and log a traceback each.
        await asyncio.to_thread(self._monitor.close)
        await super().shutdown(sockets)
