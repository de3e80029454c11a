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
from typing import Final, Self

from tests.servers import Missing, free_port

__all__ = ["RedisServer"]

_COMPONENT: Final = "redis-server"


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
    cache = Path(os.environ.get("NETRA_TEST_CACHE") or Path.home() / ".cache" / "netra-chdb-tests")
    root = cache / "redis"
    if not root.exists():
        _unpack(root)
    binary = root / "usr/bin/redis-server"
    if not binary.exists():
        raise Missing(_COMPONENT, f"no server below {root}")
    return binary, {"LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu"}


def _unpack(root: Path) -> None:
    if shutil.which("apt-get") is None:
        raise Missing(_COMPONENT, "it comes from Debian's packages, and there is no apt-get here")
    work = root.with_name(f"{root.name}.{os.getpid()}")
    debs = work / "debs"
    debs.mkdir(parents=True)
    try:
        plan = _run(debs, "apt-get", "install", "-s", "--no-install-recommends", "redis-server")
        _run(debs, "apt-get", "download", *(line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")))
        for deb in sorted(debs.glob("*.deb")):
            _run(debs, "dpkg", "-x", str(deb), str(work / "root"))
        if not root.exists():
            (work / "root").rename(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(directory: Path, *command: str) -> str:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True, timeout=240)
    except (subprocess.SubprocessError, OSError) as error:
        raise Missing(_COMPONENT, f"{' '.join(command[:2])}: {error}") from error
    return done.stdout
