"""A TCP line to a server that a test can spoil, and one that speaks TLS to the client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.servers import wait_for

__all__ = ["Proxy", "TlsFront"]

_KEPT = 1 << 16


class Proxy:
    """A TCP line to a server on 127.0.0.1, which counts connections and can be spoiled.

    Attributes:
        accepted: how many connections clients have made.
        from_client: the first bytes that clients have sent, all connections together.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.from_client = bytearray()
        self._flowing = threading.Event()
        self._flowing.set()
        self._lines: list[tuple[socket.socket, socket.socket]] = []
        self._marker: bytes | None = None
        self._executed: Callable[[], bool] = lambda: True
        self._swallowing: set[socket.socket] = set()
        self._left: int | None = None
        self._threads = [self._run(self._accept)]

    def _run(self, target: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._lines.append((client, server))
            self._threads += [self._run(self._pump, client, server, True), self._run(self._pump, server, client, False)]

    def _pump(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        tail = b""
        try:
            while part := source.recv(65536):
                self._flowing.wait()
                if from_client:
                    tail = (tail + part)[-_KEPT:]
                    marked = self._marker is not None and self._marker in tail
                    if marked:
                        self._marker, tail = None, b""
                        self._swallowing.add(target)  # before the answer can be there
                    target.sendall(part)
                    self.from_client += part[: max(0, _KEPT - len(self.from_client))]
                    if marked:
                        self._threads.append(self._run(self._cut_when_executed, source, target))
                elif source not in self._swallowing:
                    if self._left is not None:
                        part, self._left = part[: self._left], self._left - len(part)
                    target.sendall(part)
                    if self._left is not None and self._left <= 0:
                        break
        except OSError:
            pass
        _shut(source, target)

    def _cut_when_executed(self, client: socket.socket, server: socket.socket) -> None:
        wait_for(self._executed, "the server to execute what it was sent")
        _shut(client, server)

    def drop_answer(self, marker: bytes, executed: Callable[[], bool]) -> None:
        """Pass the request that holds ``marker``, then cut its line without the answer once ``executed`` holds."""
        self._executed = executed
        self._marker = marker

    def cut_answer_after(self, size: int | None) -> None:
        """Pass so many bytes more to clients, then cut every line that would carry another; None for all."""
        self._left = size

    def cut(self) -> None:
        """Close every line; new ones can be made."""
        lines, self._lines = self._lines, []
        for line in lines:
            _shut(*line)

    def hang(self) -> None:
        """Forward nothing more, in either direction, with every line left open."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again."""
        self._flowing.set()

    def close(self) -> None:
        """Close every line and stop listening."""
        self.flow()
        _shut(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


class TlsFront:
    """Takes TLS off the line to a server on 127.0.0.1 that has none of its own.

    It runs in an event loop: one thread may not read a TLS connection that another one writes.
    """

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, to_server]
        await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer), return_exceptions=True)

    def close(self) -> None:
        """Stop listening, and close what is open."""

        async def finish() -> None:
            self._server.close()
            for writer in self._writers:
                writer.close()
            others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=5)

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while part := await source.read(65536):
            target.write(part)
            await target.drain()
    finally:
        target.close()
