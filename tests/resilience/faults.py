"""The fault table: what a read ends in when something breaks, written down before it is tried.

Every read is tried three times at most. ``lasts`` is what the caller gets when the fault stays, ``passes`` when it is
gone after the first attempt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ACCESSES", "DRIVERS", "FAULTS", "MANUAL", "Ends", "Fault", "render"]

MANUAL: Final = Path(__file__).parents[2] / "docs" / "faults.md"
DRIVERS: Final = ("chhttp", "chnative")
ACCESSES: Final = ("Core", "ORM", "async", "repository")


class Ends(NamedTuple):
    """How a read ends: ``"answer"``, ``"refused"``, ``"lost"``, or ClickHouse's error code; after so many retries."""

    how: str | int
    retries: int


class Fault(NamedTuple):
    """A fault, and how a read ends by it.

    Attributes:
        what: in words.
        lasts: when it stays.
        passes: when it is gone after the first attempt; None where that cannot be.
        native: the pair over the native protocol, where it differs.
    """

    what: str
    lasts: Ends | None
    passes: Ends | None
    native: tuple[Ends | None, Ends | None] | None = None

    def expected(self, driver: str, *, lasting: bool) -> Ends | None:
        """How a read ends on a driver."""
        pair = (self.lasts, self.passes) if self.native is None or driver != "chnative" else self.native
        return pair[0 if lasting else 1]


_ANSWER: Final = Ends("answer", 1)

FAULTS: Final[dict[str, Fault]] = {
    "refused": Fault("nobody listens on the port", Ends("refused", 2), _ANSWER),
    "dns": Fault("the host's name is unknown", Ends("refused", 2), None),
    "hung_connect": Fault("the server accepts a connection and says nothing", Ends("lost", 2), _ANSWER),
    "hung_query": Fault("the line goes silent under a query", Ends("lost", 2), _ANSWER),
    # Over HTTP a closed line is noticed before the request is sent, and a new one opened: what is left is an attempt
    # to connect.
    "killed_idle": Fault("the server dies while the connection is idle", Ends("refused", 2), _ANSWER),
    "killed_query": Fault("the server dies under a query", Ends("lost", 2), _ANSWER),
    "cut_result": Fault("the line is cut in the middle of a result", Ends("lost", 2), _ANSWER),
    "restarted": Fault(
        "the server is restarted while the connection is idle", None, Ends("answer", 0), (None, Ends("answer", 1))
    ),
    "dropped": Fault("the query is executed, its answer is lost", Ends("lost", 2), _ANSWER),
    "202": Fault("202, too many queries at once", Ends(202, 2), _ANSWER),
    "241": Fault("241, out of memory", Ends(241, 1), _ANSWER),
    "159": Fault("159, too slow", Ends(159, 0), None),
    "252": Fault("252, too many parts", Ends(252, 2), _ANSWER),
    "password": Fault("wrong password", Ends(516, 0), None),
    "table": Fault("no such table", Ends(60, 0), None),
}

_HEAD: Final = """# What a read ends in when something breaks

Each line is run for real, over HTTP (`clickhouse+chhttp`) and native TCP (`clickhouse+chnative`), for reads through
Core, the ORM, an async engine and a repository: `make slow` runs all of it, `make test` a part. The four ways to read
end alike. Here three attempts are allowed; by default it is five (`CLICKHOUSE_RETRY_MAX_ATTEMPTS`).

*Lasts*: the fault stays. *Passes*: it is gone after the first attempt. *Refused*: an error that says that nothing was
executed. *Lost*: an error that does not know. A number is ClickHouse's error code (`exc.orig.code`).

| fault | HTTP, lasts | HTTP, passes | native, lasts | native, passes |
|---|---|---|---|---|
"""

_TAIL: Final = """
A result that is streamed (`stream_results`, `yield_per`, `stream()`) is repeated only before its first row was handed
out; after that, the error is raised. Statements other than reads are repeated only when they were surely not
executed: refused, DNS, 202.
"""


def _words(ends: Ends | None) -> str:
    if ends is None:
        return "-"
    word = f"error {ends.how}" if isinstance(ends.how, int) else ends.how
    return f"{word}, {ends.retries} {'retry' if ends.retries == 1 else 'retries'}"


def render() -> str:
    """Return the table as Markdown."""
    lines = [
        f"| {fault.what} | "
        + " | ".join(_words(fault.expected(driver, lasting=lasting)) for driver in DRIVERS for lasting in (True, False))
        + " |\n"
        for fault in FAULTS.values()
    ]
    return _HEAD + "".join(lines) + _TAIL


if __name__ == "__main__":
    MANUAL.write_text(render(), encoding="utf-8")
