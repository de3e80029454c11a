"""Changes of type that lose values, found in statements before they are run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from netra_chdb.dialect.create_query import split_clauses
from netra_chdb.dialect.literals import quote
from netra_chdb.dialect.type_parser import split_arguments, unquote
from netra_chdb.migrations.cluster import NO_ROWS
from netra_chdb.migrations.evidence import bare
from netra_chdb.migrations.narrowing import lost

__all__ = ["Losses"]

_NAME: Final = r"(?:`(?:[^`\\]|\\.|``)+`|\"(?:[^\"\\]|\\.)+\"|\w+)"
_ALTER: Final = re.compile(
    rf"\s*ALTER\s+TABLE\s+(?:({_NAME})\s*\.\s*)?({_NAME})\s+(?:ON\s+CLUSTER\s+\S+\s+)?(.*)", re.IGNORECASE | re.DOTALL
)
_TYPED: Final = re.compile(
    rf"(MODIFY|ALTER|ADD)\s+COLUMN\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?({_NAME})\s+(?:TYPE\s+)?(.*)",
    re.IGNORECASE | re.DOTALL,
)
_CLAUSE: Final = re.compile(
    r"(?:^|\s)(DEFAULT|MATERIALIZED|EPHEMERAL|ALIAS|COMMENT|CODEC|STATISTICS|TTL|SETTINGS|NOT|NULL|FIRST|AFTER|REMOVE"
    r"|RESET|MODIFY|ADD|PRIMARY|COLLATE)(?=[\s(]|$)",
    re.IGNORECASE,
)


class Losses:
    """What statements lose, run one after the other.

    Args:
        connection: to the server, which says what columns are now.
        database: that of tables without one.
    """

    def __init__(self, connection: sa.Connection, database: str) -> None:
        self._connection = connection
        self._database = database
        self._types: dict[tuple[str, str, str], str] = {}

    def find(self, statement: str) -> Iterator[str]:
        """Yield a sentence for each column whose values a statement would lose."""
        altered = _ALTER.match(bare(statement))
        if altered is None or statement.startswith(NO_ROWS):
            return
        database = unquote(altered[1]) if altered[1] else self._database
        table = unquote(altered[2])
        for change in split_arguments(altered[3]):
            if (typed := _TYPED.match(change)) is None:
                continue
            column = (database, table, unquote(typed[2]))
            text, clauses = split_clauses(typed[3], _CLAUSE)
            if not text:
                continue  # its default or comment alone
            new = self._normal(f"Nullable({text})" if "NULL" in {*map(str.upper, clauses)} - {"NOT"} else text)
            old = self._types.get(column) or self._type_of(*column)
            self._types[column] = new
            if typed[1].upper() != "ADD" and old and (what := lost(old, new)):
                yield f"{table}.{column[2]} becomes {new} from {old}, at the cost of {what}"

    def _type_of(self, database: str, table: str, column: str) -> str | None:
        found = self._connection.execute(
            sa.text("SELECT type FROM system.columns WHERE database = :database AND table = :table AND name = :name"),
            {"database": database, "table": table, "name": column},
        ).scalar()
        return None if found is None else str(found)

    def _normal(self, text: str) -> str:
        """Return a type in the server's own words; as it stands where the server does not know them."""
        question = f"SELECT toTypeName(defaultValueOfTypeName({quote(text)}))".replace("%", "%%")
        try:
            return str(self._connection.exec_driver_sql(question).scalar())
        except sa.exc.DBAPIError:
            return text
