"""``netra-chdb check --simulate-failure``: what the library does when things fail, shown on faults made on purpose.

Everything is on this machine and in a temporary folder: ports that nobody answers, a server of a few lines that
refuses every password, an embedded engine without a schema, a spool with no room. ClickHouse as it is configured is
not touched. Each result says what was promised, and what happened.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from netra_chdb.access import DataAccess
from netra_chdb.config import Config
from netra_chdb.errors import BreakerOpen, EngineMissing, NotReady, SpoolFull, code_of
from netra_chdb.models.base import now
from netra_chdb.scope import EVERYONE
from netra_chdb.validation.check import Checks
from netra_chdb.validation.result import Finding, Report, bad, good, skipped

__all__ = ["run"]

_PASSWORD: Final = "simulated-password"  # noqa: S105 - nobody's
_REFUSAL: Final = (
    b"Code: 516. DB::Exception: simulated: Authentication failed: password is incorrect, or there is no user with "
    b"such name. (AUTHENTICATION_FAILED)\n"
)
_REPORT_IT: Final = "this is a fault of netra_chdb: report it with this output"
#: Seconds: far more than is needed, so that only waiting for the fault itself is found.
_SOON: Final = 5.0
_AT_ONCE: Final = 0.5


class _Broken(Exception):
    """A promise was not kept."""


def _promise(kept: bool, what: str) -> None:
    if not kept:
        raise _Broken(what)


def run() -> Report:
    """Make every fault, and look at what happens; never raises."""
    results: list[Any] = []
    for name, simulate in _FAULTS.items():
        with tempfile.TemporaryDirectory(prefix="netra-chdb-simulation-") as folder:
            checks = Checks(_config(Path(folder), 1))
            checks.run(f"simulated: {name}", lambda: _shown(simulate, Path(folder)))  # noqa: B023
            results += checks.results
    return Report(tuple(results))


def _shown(simulate: Callable[[Path], str], folder: Path) -> Finding:
    try:
        return good(simulate(folder))
    except _Broken as broken:
        return bad(f"promise broken: {broken}", _REPORT_IT)
    except EngineMissing as missing:
        return skipped(str(missing))
    except Exception as error:
        return bad(f"unexpected {type(error).__name__}: {error}", _REPORT_IT)


def _config(folder: Path, port: int | None, **settings: Any) -> Config:
    """Return a configuration that reads nothing of the environment."""
    place: dict[str, Any] = {"path": folder / "netra.chdb"}
    if port is not None:
        place = {"host": "127.0.0.1", "port": port, "user": "simulated", "password": _PASSWORD}
    quick = {"retry_max_attempts": 2, "retry_initial_delay": 0.01, "attempt_timeout": 1.0, "breaker_fail_max": 2}
    made = {"redis_url": None, "spool_dir": folder / "spool", **place, **quick, **settings}
    return Config(_env_prefix="NETRA_CHDB_SIMULATION_", **made)


def _event(number: int) -> dict[str, Any]:
    return {"user_id": "simulated", "event_type": "ui", "event_name": f"click {number}"}


@contextlib.contextmanager
def _silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def _closed_port() -> int:
    with _silent() as port:
        return port


def _failure(act: Callable[[], Any], within: float, what: str) -> Exception:
    """Return what an act raises, in time."""
    began = time.monotonic()
    try:
        act()
    except Exception as error:
        took = time.monotonic() - began
        _promise(took <= within, f"{what} took {took:.1f} s")
        _promise(_PASSWORD not in str(error), f"the error of {what} shows the password")
        return error
    raise _Broken(f"{what} succeeded, and cannot have")


def _keeps_rows(data: DataAccess) -> str:
    """Rows are taken while ClickHouse is away, reads end, and the breaker spares both sides the waiting."""
    began = time.monotonic()
    for number in range(10):
        data.events.record(_event(number))
    took = time.monotonic() - began
    _promise(took < _SOON, f"recording 10 rows took {took:.1f} s")

    def read() -> Any:
        return data.events.count(user_id=EVERYONE)

    for _ in range(3):
        _failure(read, 2 * _SOON, "a read")
    refused = _failure(read, _AT_ONCE, "a read with the breaker open")
    _promise(isinstance(refused, BreakerOpen), f"the breaker did not open: {type(refused).__name__}")
    receipt = data.events.insert([{**_event(10), "timestamp": now()}])
    _promise(receipt.state == "spooled", f"an insert said {receipt.state!r}")
    waiting = data.spool.counts()[0]
    _promise(waiting == 11, f"{waiting} of 11 rows are on disk")
    return "11 rows taken and on disk, reads ended in time, then refused at once by the breaker"


def _down(folder: Path) -> str:
    config = _config(folder, _closed_port())
    with DataAccess(config) as data:
        said = _keeps_rows(data)
        _promise(data.validate()["tcp"].state == "failed", "the check does not name it")
        error = _failure(lambda: data.initialize(deadline=0.5), _SOON, "a start")
        _promise(isinstance(error, NotReady), f"a start raised {type(error).__name__}")
    with DataAccess(config) as again:
        _promise(again.spool.counts()[0] == 11, "rows were gone after a restart")
    return f"{said}; they are there after a restart; the check says: connection refused"


def _hung(folder: Path) -> str:
    with _silent() as port, DataAccess(_config(folder, port)) as data:
        said = _keeps_rows(data)
        found = data.validate()["handshake"]
        _promise(found.state == "failed" and "no answer" in found.evidence, "the check does not name it")
    return f"{said}; the check says: no answer"


class _RefusesPasswords(http.server.BaseHTTPRequestHandler):
    """What a server answers to a wrong password."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("X-ClickHouse-Exception-Code", "516")
        self.send_header("Content-Length", str(len(_REFUSAL)))
        self.end_headers()
        self.wfile.write(_REFUSAL)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


def _wrong_password(folder: Path) -> str:
    class Handler(_RefusesPasswords):
        """Counts for itself."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with DataAccess(_config(folder, int(server.server_address[1]))) as data:
                error = _failure(lambda: data.initialize(deadline=60), _SOON, "a start")
                _promise(isinstance(error, NotReady) and "CLICKHOUSE_PASSWORD" in str(error), "the start says another")
                before = Handler.asked
                error = _failure(lambda: data.events.count(user_id=EVERYONE), _SOON, "a read")
                _promise(code_of(error) == 516, f"a read raised {error}")
                _promise(Handler.asked == before + 1, f"a read was tried {Handler.asked - before} times")
                _promise(data.breaker.current_state == "closed", "the breaker opened for it")
                _promise(data.validate()["authentication"].state == "failed", "the check does not name it")
        finally:
            server.shutdown()
    return "the start ends at once and names the password; a read is tried once, the breaker stays closed"


def _missing_table(folder: Path) -> str:
    with DataAccess(_config(folder, None)) as data:
        error = _failure(lambda: data.events.count(user_id=EVERYONE), _SOON, "a read")
        _promise(code_of(error) in (60, 81), f"a read raised {error}")
        _promise(data.breaker.current_state == "closed", "the breaker opened for it")
        _promise(data.validate()["schema"].state == "failed", "the check does not name it")
        for number in range(10):
            data.events.record(_event(number))
        data.initialize()
        data.flush(30)
        _promise(len(data.writer.quarantine) == 0, "rows were put aside for want of a table")
        count = data.events.count(user_id="simulated")
        _promise(count == 10, f"{count} of 10 rows arrived")
    return "a read is told at once; rows recorded before the table was there arrived, each once"


def _full_spool(folder: Path) -> str:
    config = _config(folder, _closed_port(), spool_max_bytes=200_000)
    taken = 0
    with DataAccess(config) as data:
        row = {**_event(0), "data": {"text": "x" * 1000}}
        for _ in range(1000):
            try:
                data.events.record(row)
            except SpoolFull as full:
                _promise("spool_max_bytes" in str(full), "the error does not name the limit")
                break
            taken += 1
        else:
            raise _Broken("a full spool took 1000 rows")
    with DataAccess(config) as data:
        kept = data.spool.counts()[0]
        _promise(kept == taken, f"{kept} of {taken} rows are on disk")
    return f"the spool took {taken} rows and refused the next; none that it took is lost"


_FAULTS: Final[dict[str, Callable[[Path], str]]] = {
    "down": _down,
    "hung": _hung,
    "wrong password": _wrong_password,
    "missing table": _missing_table,
    "full spool": _full_spool,
}
