"""Real ClickHouse servers for tests.

``ModernServer`` is the engine inside the chdb wheel with its HTTP and native listeners opened: the engine is the
code of clickhouse-local, which can listen. ``OldServer`` is Debian's ClickHouse 18.16. Both run as children of the
test process on 127.0.0.1, and end with it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["PASSWORD", "Missing", "ModernServer", "OldServer", "free_port", "wait_for"]

_USERS: Final = """<{root}>
<profiles><default/><readonly><readonly>1</readonly></readonly></profiles>
<quotas><default/></quotas>
<users>
<default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>
<netra><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota></netra>
<reader><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>readonly</profile>
<quota>default</quota></reader>
</users>
</{root}>"""
PASSWORD: Final = "s3cret/p@ss"

_MODERN_CONFIG: Final = """<clickhouse>
<http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
<users_config>{users}</users_config>
</clickhouse>"""

# The engine serves for as long as this query runs.
_SERVE: Final = (
    "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT sum(sleepEachRow(1)) FROM numbers(1000000000) "
    "SETTINGS max_block_size = 1, max_execution_time = 0, function_sleep_max_microseconds_per_block = 3600000000"
)

_OLD_CONFIG: Final = """<yandex>
<logger><level>information</level><log>{base}/server.log</log><errorlog>{base}/error.log</errorlog></logger>
<listen_host>127.0.0.1</listen_host><http_port>{http}</http_port><tcp_port>{tcp}</tcp_port>
<path>{base}/data/</path><tmp_path>{base}/tmp/</tmp_path><mark_cache_size>67108864</mark_cache_size>
<users_config>{users}</users_config><default_profile>default</default_profile>
<default_database>default</default_database><max_connections>64</max_connections><timezone>UTC</timezone>
</yandex>"""


class Missing(Exception):
    """A component that a test needs is not on this machine."""

    def __init__(self, component: str, reason: str) -> None:
        self.component = component
        self.reason = reason
        super().__init__(f"{component}: {reason}")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends, however it ends."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


class _Server:
    """A server in a child process; its ports and data survive a restart."""

    READY_WITHIN: Final = 60.0

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.http_port = free_port()
        self.tcp_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it answers a query."""
        assert self._process is None, "the server runs already"
        self.base.mkdir(parents=True, exist_ok=True)
        command, environment = self._command()
        with (self.base / "output.log").open("ab") as log:
            # A session of its own: a server that shuts down signals its whole process group.
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.READY_WITHIN
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended by itself: {self._tail()}")
            try:
                self.query("SELECT 1")
                socket.create_connection(("127.0.0.1", self.tcp_port), timeout=5).close()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not get ready: {self._tail()}") from error
            time.sleep(0.05)

    def _tail(self) -> str:
        return (self.base / "output.log").read_text(errors="replace")[-2000:]

    def query(self, sql: str) -> str:
        """Run ``sql`` past every driver under test, and return the answer as TabSeparated text."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/",
            data=sql.encode(),
            headers={"X-ClickHouse-User": "netra", "X-ClickHouse-Key": PASSWORD},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body.decode().rstrip("\n")

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End the server; it holds nothing that a kill would lose to a test."""
        self.kill()

    def restart(self) -> None:
        """Kill the server and start it again on the same ports and data."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the process where it is: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is on its way when kill() returns: until it stops the last thread, one may answer a query yet.
        tasks = Path(f"/proc/{self.pid}/task")
        while any((task / "stat").read_text().rpartition(")")[2].split()[0] not in "tT" for task in tasks.iterdir()):
            time.sleep(0.001)

    def resume(self) -> None:
        """Let a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def port(self, driver: str) -> int:
        """Return the port that ``driver`` connects to."""
        return self.http_port if driver == "chhttp" else self.tcp_port

    def url(
        self,
        driver: str,
        *,
        user: str = "netra",
        password: str = PASSWORD,
        database: str = "default",
        port: int | None = None,
        **query: Any,
    ) -> str:
        """Return a SQLAlchemy URL for ``driver`` (chhttp or chnative)."""
        import sqlalchemy as sa

        url = sa.URL.create(
            f"clickhouse+{driver}",
            username=user,
            password=password,
            host="127.0.0.1",
            port=port or self.port(driver),
            database=database,
            query={name: str(value) for name, value in query.items()},
        )
        return url.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ModernServer(_Server):
    """The engine of the chdb wheel behind real HTTP and native sockets.

    Limits: no ReplicatedMergeTree or Keeper, no CREATE USER, no queue for asynchronous inserts; a password for
    ``default`` keeps it from starting.
    """

    def _command(self) -> tuple[list[str], dict[str, str]]:
        try:
            import chdb  # noqa: F401
        except ImportError as error:
            raise Missing("chdb", str(error)) from error
        home = self.base / "home"
        settings = home / ".clickhouse-local"
        settings.mkdir(parents=True, exist_ok=True)
        users = self.base / "users.xml"
        users.write_text(_USERS.format(root="clickhouse", password=PASSWORD))
        (settings / "config.xml").write_text(_MODERN_CONFIG.format(http=self.http_port, tcp=self.tcp_port, users=users))
        # The engine reads $HOME when it is imported.
        return [sys.executable, __file__, str(self.base / "data")], {"HOME": str(home), "TZ": "UTC"}


def _serve_modern(path: str) -> None:
    die_with_parent()
    import chdb

    engine: Any = chdb._chdb
    engine.query(_SERVE, "TabSeparated", path=path)


class OldServer(_Server):
    """Debian's ClickHouse 18.16: what an old installation answers, over a real native connection."""

    PACKAGES: Final = ("clickhouse-server", "clickhouse-client")

    def _command(self) -> tuple[list[str], dict[str, str]]:
        binary, environment = _old_binary()
        for name in ("data", "tmp"):
            (self.base / name).mkdir(exist_ok=True)
        users = self.base / "users.xml"
        users.write_text(_USERS.format(root="yandex", password=PASSWORD))
        config = self.base / "config.xml"
        config.write_text(_OLD_CONFIG.format(base=self.base, http=self.http_port, tcp=self.tcp_port, users=users))
        launch = f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import servers"
        launch += f"; servers.die_with_parent(); os.execv({str(binary)!r}, [{str(binary)!r}, '--config={config}'])"
        return [sys.executable, "-c", launch], environment


def _old_binary() -> tuple[Path, dict[str, str]]:
    from tests.debian import unpacked

    installed = shutil.which("clickhouse-server")
    if installed is not None and b"18.16" in subprocess.run([installed, "--version"], capture_output=True).stdout:
        return Path(installed), {}
    root, environment = unpacked(*OldServer.PACKAGES, version="18.16")
    for binary in (root / "usr/sbin/clickhouse-server", root / "usr/bin/clickhouse-server"):
        if binary.exists():
            return binary, environment
    raise Missing("clickhouse-server 18.16", f"no server below {root}")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait until ``condition`` holds; an upper bound, not a measure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.01)


if __name__ == "__main__":
    _serve_modern(sys.argv[1])
