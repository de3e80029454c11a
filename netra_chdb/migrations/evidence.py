"""Whether a statement took effect that nobody heard the end of, told by what the server holds.

Before each statement the state of what it names is noted: tables with their definitions, the last mutation, the last
block. DDL on one object is one rename of its metadata, so it happened if its object has changed since, and did not
if it has not. Nobody else migrates meanwhile: that is what the lock is for.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final, Self

import sqlalchemy as sa

from netra_chdb.dialect.create_query import read_create_query

__all__ = ["Evidence", "Verdict", "adds_rows", "bare", "is_of", "is_put_off", "mutates", "names_in", "number_of"]

_NAME: Final = re.compile(r"`((?:[^`\\]|\\.|``)+)`|\"((?:[^\"\\]|\\.)+)\"|(\w+)")
_TRIVIA: Final = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
# Once more does no harm: what is there stays, what is gone stays gone.
_REPEATABLE: Final = re.compile(
    r"\s*(?:SYSTEM|OPTIMIZE|TRUNCATE|SET|SELECT|KILL)\b"
    r"|\s*\w+\s+(?:OR\s+REPLACE\b|(?:\w+\s+)*?IF\s+(?:NOT\s+)?EXISTS\b)"
    r"|\s*ALTER\s.*?\b(?:DROP|DETACH|ATTACH|CLEAR|FREEZE|UNFREEZE|FETCH|MOVE)\s+(?:DETACHED\s+)?PART(?:ITION)?\b(?!.*\sFROM\s)"
    r"|\s*ALTER\s.*?\bREPLACE\s+PARTITION\b",
    re.IGNORECASE | re.DOTALL,
)
_ADDS_ROWS: Final = re.compile(r"\s*INSERT\b|\s*ALTER\s.*?\bATTACH\s+PARTITION\b.*\sFROM\s", re.IGNORECASE | re.DOTALL)
_FILLS_A_TABLE: Final = re.compile(
    r"\s*CREATE\s+TABLE\b.*\bAS\s+(?:\(\s*)?(?:SELECT|WITH)\b", re.IGNORECASE | re.DOTALL
)
_DEFINES: Final = re.compile(r"\s*(?:CREATE|ALTER|DROP|RENAME|EXCHANGE|ATTACH|DETACH|UNDROP)\b", re.IGNORECASE)
_MUTATES: Final = re.compile(
    r"\s*DELETE\s+FROM\b|\s*ALTER\s.*?\b(?:UPDATE|DELETE|MATERIALIZE|CLEAR|MODIFY|DROP|RENAME|APPLY)\b",
    re.IGNORECASE | re.DOTALL,
)
_MODIFIES_A_COLUMN: Final = re.compile(r"\s*ALTER\s.*?\bMODIFY\s+COLUMN\b", re.IGNORECASE | re.DOTALL)
_PUT_OFF: Final = re.compile(r"\s*ALTER\s.*?\b(?:UPDATE|DELETE|MATERIALIZE|CLEAR)\b", re.IGNORECASE | re.DOTALL)


class Verdict(enum.Enum):
    """What became of a statement."""

    DONE = "done"
    NOT_DONE = "not done"
    UNKNOWN = "unknown"


def bare(statement: str) -> str:
    """Return a statement without its comments."""
    return _TRIVIA.sub(" ", statement)


def names_in(statement: str) -> list[str]:
    """Return every word and quoted name of a statement: tables that it may touch are among them."""
    return sorted({next(filter(None, match.groups())) for match in _NAME.finditer(statement)})


def adds_rows(statement: str) -> bool:
    """Whether a statement adds rows to a table that is there."""
    return bool(_ADDS_ROWS.match(bare(statement)))


def mutates(statement: str) -> bool:
    """Whether a statement may leave a mutation running on the server."""
    return bool(_MUTATES.match(bare(statement)))


def is_put_off(statement: str) -> bool:
    """Whether the server, unless it is told to wait, answers before a statement is carried out."""
    return bool(_PUT_OFF.match(bare(statement))) and "mutations_sync" not in statement


class Evidence:
    """The state of what one statement names.

    Attributes:
        objects: a digest of the definition of each table and view.
        mutations: the number of each table's last mutation.
        blocks: the number of blocks ever written to each table, if the statement adds rows.
        columns: the columns of each table that the statement modifies, as they were.
        stuck: the host, table and id of the statement's mutation that was seen failing; empty if none was.
    """

    def __init__(
        self,
        objects: dict[str, str],
        mutations: dict[str, int],
        blocks: dict[str, int],
        columns: dict[str, dict[str, str]] | None = None,
        stuck: Sequence[str] = (),
    ) -> None:
        self.objects = objects
        self.mutations = mutations
        self.blocks = blocks
        self.columns = columns or {}
        self.stuck = tuple(stuck)

    @classmethod
    def gather(cls, connection: sa.Connection, database: str, statement: str) -> Self:
        """Ask the server."""
        asked = {"database": database, "names": tuple(names_in(statement))}

        def rows(sql: str) -> Any:
            return connection.execute(sa.text(sql), asked).all()

        modern = tuple(connection.dialect.server_version_info or ()) > (21,)
        identity = "toString(uuid)" if modern else "''"
        definitions = rows(
            f"SELECT name, {identity}, create_table_query FROM system.tables "  # noqa: S608
            "WHERE database = :database AND name IN :names"
        )
        objects = {
            name: hashlib.sha256(f"{uuid} {definition}".encode()).hexdigest()[:16]
            for name, uuid, definition in definitions
        }
        columns: dict[str, dict[str, str]] = {}
        if _MODIFIES_A_COLUMN.match(bare(statement)):
            for name, _, definition in definitions:
                texts = read_create_query(definition).columns
                columns[name] = {column: text for column, text in texts.items() if column in asked["names"]}
        mutations: dict[str, int] = {}
        if mutates(statement):
            for table, mutation in rows(
                "SELECT table, mutation_id FROM system.mutations WHERE database = :database AND table IN :names"
            ):
                mutations[table] = max(mutations.get(table, 0), number_of(mutation))
        blocks: dict[str, int] = {}
        if adds_rows(statement):
            blocks = {
                table: int(written)
                for table, written in rows(
                    "SELECT table, sum(last) FROM (SELECT table, max(max_block_number) + 1 AS last FROM system.parts "
                    "WHERE database = :database AND table IN :names GROUP BY table, partition) GROUP BY table"
                )
            }
        return cls(objects, mutations, blocks, columns)

    def dump(self) -> str:
        """Return it as text, for the journal."""
        return json.dumps([self.objects, self.mutations, self.blocks, self.columns, self.stuck], sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Self:
        """Return what :meth:`dump` wrote."""
        return cls(*json.loads(text))

    def judge(self, connection: sa.Connection, database: str, statement: str, *, repeatable: bool = False) -> Verdict:
        """Say whether ``statement`` took effect since this was gathered."""
        now = type(self).gather(connection, database, statement)
        text = bare(statement)
        if _FILLS_A_TABLE.match(text) and now.objects != self.objects:
            return Verdict.UNKNOWN  # the table is there; whether all of its rows are, nobody can say
        if _DEFINES.match(text) and now.objects != self.objects:
            return Verdict.DONE
        if self.mutated(connection, database, text):
            return Verdict.DONE
        if repeatable or _REPEATABLE.match(text):
            return Verdict.NOT_DONE
        if _ADDS_ROWS.match(text):
            return Verdict.NOT_DONE if now.blocks == self.blocks else Verdict.UNKNOWN
        return Verdict.NOT_DONE if _DEFINES.match(text) or _MUTATES.match(text) else Verdict.UNKNOWN

    def mutated(self, connection: sa.Connection, database: str, statement: str) -> bool:
        """Whether a mutation began since that is this statement, and not an application's DELETE."""
        text = bare(statement)
        for table, number in type(self).gather(connection, database, statement).mutations.items():
            if number <= self.mutations.get(table, 0):
                continue
            rows = connection.execute(
                sa.text(
                    "SELECT mutation_id, command FROM system.mutations WHERE database = :database AND table = :name"
                ),
                {"database": database, "name": table},
            )
            for mutation, command in rows:
                if number_of(mutation) > self.mutations.get(table, 0) and is_of(command, text):
                    return True
        return False


def is_of(command: str, statement: str) -> bool:
    """Whether a mutation's command may be what ``statement`` began."""
    return re.sub(r"^\W*(\w+).*", r"\1", command, flags=re.DOTALL).upper() in statement.upper()


def number_of(mutation: str) -> int:
    """Return a mutation's place in the order of its table's mutations."""
    digits = re.search(r"\d+", mutation)
    return int(digits[0]) if digits else 0
