"""The errors of netra_chdb, and the one table that classifies ClickHouse's error codes.

The tree (database errors themselves stay SQLAlchemy's; ``exc.orig.code`` is ClickHouse's code)::

    NetraError
     +-- ConfigError (ValueError)           a setting is wrong, missing or in conflict
     +-- BreakerOpen (CircuitBreakerError)  the breaker is open: ClickHouse was not asked
     +-- InvalidRow (ValueError)            rows that their table can never accept
     +-- SpoolFull                          the durable queue has reached its size limit
     +-- NotReady                           ClickHouse, or its schema, is not there (yet)
     |    +-- EngineMissing (ImportError)   the embedded engine is not installed
     |    +-- StartingUp (BreakerOpen)    the start is not through yet: ClickHouse was not asked
     |    +-- ForkedProcess                 the embedded engine was opened before a fork
     +-- SchemaMismatch                     the database's schema is not the models'
     +-- MigrationLocked                    another process migrates this database
"""

from __future__ import annotations

import enum
import http.client
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pybreaker
from sqlalchemy import exc as sa_exc

__all__ = [
    "Advice",
    "BreakerOpen",
    "ConfigError",
    "EngineMissing",
    "ForkedProcess",
    "InvalidRow",
    "MigrationLocked",
    "NetraError",
    "NotReady",
    "Outcome",
    "RowProblem",
    "SchemaMismatch",
    "SpoolFull",
    "StartingUp",
    "Statement",
    "advise",
    "classify",
    "code_of",
]


class NetraError(Exception):
    """Root of every error that netra_chdb itself raises."""


class ConfigError(NetraError, ValueError):
    """A setting is wrong, missing, or in conflict with another one."""


class BreakerOpen(NetraError, pybreaker.CircuitBreakerError):
    """The circuit breaker is open: the call was refused without touching ClickHouse."""


class NotReady(NetraError):
    """ClickHouse, or the schema in it, is not there (yet)."""


class StartingUp(NotReady, BreakerOpen):
    """The application has not finished its start: the call was refused without touching ClickHouse."""


class EngineMissing(NotReady, ImportError):
    """The embedded engine is not installed; the message names the extra that brings it."""


class ForkedProcess(NotReady):
    """The embedded engine was opened before a fork; chDB hangs when the child touches it."""


class SpoolFull(NetraError):
    """The spool has reached its limit in bytes; nothing was accepted and nothing dropped."""


class SchemaMismatch(NetraError):
    """The schema in the database is not the one that the models describe."""


class MigrationLocked(NetraError):
    """Another process is migrating this database; the message names it."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One reason why one row cannot be stored.

    Attributes:
        row: index of the row in the caller's input, from 0.
        column: the column's name.
        value: the offending value's ``repr``, shortened.
        rule: what the column accepts, as a sentence part ("must be ...").
    """

    row: int
    column: str
    value: str
    rule: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column!r}: {self.value} {self.rule}"


class InvalidRow(NetraError, ValueError):
    """Rows that their table can never accept; raised before anything is sent.

    Attributes:
        table: the table's full name.
        problems: every problem of every row, in order of rows.
    """

    _SHOWN: Final = 10

    def __init__(self, table: str, problems: Sequence[RowProblem]) -> None:
        self.table = table
        self.problems = tuple(problems)
        shown = "; ".join(str(problem) for problem in self.problems[: self._SHOWN])
        more = len(self.problems) - self._SHOWN
        super().__init__(
            f"{len(self.problems)} problem(s) in rows for {table}: {shown}"
            + (f"; and {more} more in .problems" if more > 0 else "")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.table, self.problems)


class Outcome(enum.Enum):
    """What is known about a statement that failed."""

    REJECTED = "rejected"
    """Surely not executed; anything may be tried again."""
    AMBIGUOUS = "ambiguous"
    """May have been executed; a read may be tried again, a batch has to be settled."""
    OVERLOAD = "overload"
    """The server asks for less; try again only after a long delay."""
    PERMANENT = "permanent"
    """Trying again changes nothing; says nothing about the server's health."""

    @property
    def is_systemic(self) -> bool:
        """Whether it counts against the circuit breaker."""
        return self is not Outcome.PERMANENT


class Statement(enum.Enum):
    """What kind of statement failed: it decides whether trying again is safe."""

    READ = "read"
    """Changes nothing: what was not answered may be asked again."""
    BATCH = "batch"
    """A frozen batch of the writer, which can find out whether it is stored."""
    OTHER = "other"
    """Anything else: done twice, it would be done twice."""


class Advice(enum.Enum):
    """What to do about a statement that failed."""

    RETRY = "retry"
    RETRY_LATER = "retry after a long delay"
    RETRY_ONCE = "retry once"
    SETTLE = "find out whether the batch is stored, before it is sent again"
    NO = "no"


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table: the codes, what is known, and what to do with a read, a batch, another statement."""

    codes: tuple[int, ...]
    outcome: Outcome
    read: Advice
    batch: Advice
    other: Advice

    def advice(self, statement: Statement) -> Advice:
        found: Advice = getattr(self, statement.value)
        return found


_NO, _RETRY, _SETTLE = Advice.NO, Advice.RETRY, Advice.SETTLE

# Names of the codes: src/Common/ErrorCodes.cpp of ClickHouse.
_REJECTED: Final = _Row((202, 203, 373, 439, 745), Outcome.REJECTED, _RETRY, _RETRY, _RETRY)
_LOST: Final = _Row((3, 32, 209, 210, 425, 1000, 1002, 198, 279), Outcome.AMBIGUOUS, _RETRY, _SETTLE, _NO)
_UNKNOWN: Final = _Row((), Outcome.PERMANENT, _NO, _SETTLE, _NO)
_BUSY: Final = _Row((252, 201, 290, 243, 692), Outcome.OVERLOAD, Advice.RETRY_LATER, _SETTLE, _NO)
_TABLE: Final = (
    _REJECTED,
    _LOST,
    # Replication, Keeper, parts in an unknown state.
    _Row((319, 999, 1001, 242, 285, 286, 254, 265, 289, 236, 384, 225), Outcome.AMBIGUOUS, _RETRY, _SETTLE, _NO),
    # Too slow: asked again it would be as slow.
    _Row((159, 160), Outcome.AMBIGUOUS, _NO, _SETTLE, _NO),
    # Too many parts, queries, tables; no space. Settling waits as long as a read does.
    _BUSY,
    # Out of memory: a read may meet less company; a batch goes in halves.
    _Row((241,), Outcome.OVERLOAD, Advice.RETRY_ONCE, _SETTLE, _NO),
    # Cancelled by somebody, at whatever point it was.
    _Row((394,), Outcome.PERMANENT, _NO, _SETTLE, _NO),
    # The statement or its rows are wrong, or not allowed.
    _Row(
        (
            *(164, 497, 516, 192, 193, 194, 195, 291),
            *(6, 16, 20, 26, 27, 36, 38, 41, 43, 44, 47, 48, 53, 57, 60, 62, 81, 115, 117, 321, 349),
        ),
        Outcome.PERMANENT,
        _NO,
        _NO,
        _NO,
    ),
)
_ROW_OF_CODE: Final[dict[int, _Row]] = {code: row for row in _TABLE for code in row.codes}
# What a gateway answers, without a code of ClickHouse's: it did not get through, or shall get less to do.
_ROW_OF_STATUS: Final[dict[int, _Row]] = {429: _BUSY, 502: _LOST, 503: _LOST, 504: _LOST}


def code_of(error: BaseException) -> int | None:
    """Return ClickHouse's error code of ``error`` or of what it wraps; None when there is none."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        code = getattr(current, "code", None)
        # SQLAlchemy's own errors carry a documentation key ("e3q8") under the same name.
        if isinstance(code, int):
            return code
        current = getattr(current, "orig", None) or current.__cause__
    return None


def _innermost(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = getattr(current, "orig", None) or current.__cause__ or current.__context__
    return chain


def _row_of(error: BaseException) -> _Row:
    code = code_of(error)
    if code is not None:
        return _ROW_OF_CODE.get(code, _UNKNOWN)
    chain = _innermost(error)
    if any(isinstance(item, ConnectionRefusedError | socket.gaierror) for item in chain):
        return _REJECTED
    # An HTTPException: a response that ended before its end.
    if any(isinstance(item, OSError | EOFError | http.client.HTTPException) for item in chain):
        return _LOST
    for item in chain:
        if (status := getattr(item, "http_status", None)) is not None:
            return _ROW_OF_STATUS.get(status, _UNKNOWN)
    if any(isinstance(item, sa_exc.DBAPIError) and item.connection_invalidated for item in chain):
        return _LOST
    return _UNKNOWN


def classify(error: BaseException) -> Outcome:
    """Say what is known about the statement that raised ``error``.

    Args:
        error: a SQLAlchemy, PEP 249 or plain Python error.

    Returns:
        The outcome from the table of error codes; without a code, refused connections and unresolved
        names are ``REJECTED``, other lost connections and a gateway's 502, 503 and 504 ``AMBIGUOUS``, its 429
        ``OVERLOAD``, everything else ``PERMANENT``.
    """
    return _row_of(error).outcome


def advise(error: BaseException, statement: Statement) -> Advice:
    """Say what to do about a ``statement`` that raised ``error``, from the same table."""
    return _row_of(error).advice(statement)
