"""A real Redis for tests: Debian's, unpacked beside the other servers and run as a child on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.debian import unpacked
from tests.servers import free_port

__all__ = ["RedisServer"]


class RedisServer:
    """Redis in a child process; it forgets everything when it ends, and its port survives."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        assert self._process is None, "it runs already"
        binary, environment = _binary()
        options = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        launch = f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import servers"
        launch += f"; servers.die_with_parent(); os.execv({options[0]!r}, {options!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", launch],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended by itself"
            assert time.monotonic() < deadline, "redis-server did not get ready"
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End it; a second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _binary() -> tuple[Path, dict[str, str]]:
    installed = shutil.which("redis-server")
    if installed is not None:
        return Path(installed), {}
    root, environment = unpacked("redis-server")
    return root / "usr/bin/redis-server", environment
