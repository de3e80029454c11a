"""The errors of netra_chdb, and the one table that classifies ClickHouse's error codes.

The tree (database errors themselves stay SQLAlchemy's; ``exc.orig.code`` is ClickHouse's code)::

    NetraError
     +-- ConfigError (ValueError)           a setting is wrong, missing or in conflict
     +-- BreakerOpen (CircuitBreakerError)  the breaker is open: ClickHouse was not asked
     +-- InvalidRow (ValueError)            rows that their table can never accept
     +-- SpoolFull                          the durable queue has reached its size limit
     +-- NotReady                           ClickHouse, or its schema, is not there (yet)
     |    +-- EngineMissing (ImportError)   the embedded engine is not installed
     |    +-- ForkedProcess                 the embedded engine was opened before a fork
     +-- SchemaMismatch                     the database's schema is not the models'
     +-- MigrationLocked                    another process migrates this database
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pybreaker
from sqlalchemy import exc as sa_exc

__all__ = [
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


# Names: src/Common/ErrorCodes.cpp of ClickHouse. An unknown code is PERMANENT: never retried blindly.
_CODES: Final[dict[Outcome, tuple[int, ...]]] = {
    Outcome.REJECTED: (202, 203, 373, 439, 745),
    Outcome.AMBIGUOUS: (
        *(3, 32, 209, 210, 425, 1000, 1002, 198, 279),  # the connection was lost
        *(319, 999, 1001, 242, 285, 286, 254, 265, 289, 236, 384, 225),  # replication, Keeper, unknown status
        *(159, 160),  # time-outs
    ),
    Outcome.OVERLOAD: (252, 201, 290, 243, 692, 241),
}
_OUTCOME_OF_CODE: Final[dict[int, Outcome]] = {code: outcome for outcome, codes in _CODES.items() for code in codes}


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


def classify(error: BaseException) -> Outcome:
    """Say what is known about the statement that raised ``error``.

    Args:
        error: a SQLAlchemy, PEP 249 or plain Python error.

    Returns:
        The outcome from the table of error codes; without a code, refused connections and unresolved
        names are ``REJECTED``, other lost connections ``AMBIGUOUS``, everything else ``PERMANENT``.
    """
    code = code_of(error)
    if code is not None:
        return _OUTCOME_OF_CODE.get(code, Outcome.PERMANENT)
    chain = _innermost(error)
    if any(isinstance(item, ConnectionRefusedError | socket.gaierror) for item in chain):
        return Outcome.REJECTED
    if any(isinstance(item, OSError | EOFError) and not isinstance(item, ImportError) for item in chain):
        return Outcome.AMBIGUOUS
    if any(isinstance(item, sa_exc.DBAPIError) and item.connection_invalidated for item in chain):
        return Outcome.AMBIGUOUS
    return Outcome.PERMANENT
