"""An ``INSERT ... VALUES`` of placeholders alone, told from its text: it is sent as one Native block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final

__all__ = ["InsertBlock", "insert_block"]

_NAME: Final = r"(?:\w+|`(?:[^`\\]|\\.|``)*`)"
_PLACEHOLDER: Final = r"%(?:\(([^()]*)\))?s"
_GROUP: Final = rf"\(\s*{_PLACEHOLDER}(?:\s*,\s*{_PLACEHOLDER})*\s*\)"
_INSERT: Final = re.compile(
    rf"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<table>{_NAME}(?:\.{_NAME})?)\s*"
    rf"\(\s*(?P<columns>{_NAME}(?:\s*,\s*{_NAME})*)\s*\)\s*VALUES\s*(?P<rows>{_GROUP}(?:\s*,\s*{_GROUP})*)\s*",
    re.DOTALL | re.IGNORECASE,
)
_FIRST_COLUMN: Final = re.compile(_NAME, re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)|``", re.DOTALL)


@dataclass(frozen=True, slots=True)
class InsertBlock:
    """An ``INSERT ... VALUES`` of bound values alone: what a driver sends as one block of columns.

    Attributes:
        table: the table as SQL text, quoted where needed.
        columns: the columns' names.
        rows: for each row of the statement, the key of each column's parameter: its name, or its place.
    """

    table: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] | tuple[tuple[int, ...], ...]

    def columns_of(self, parameters: Sequence[Any]) -> list[list[Any]]:
        """Return the values by column, of sets of parameters that are mappings, or tuples for places.

        Raises:
            LookupError: a set lacks a value.
            TypeError: a tuple has more values than there are places.
        """
        wanted = sum(map(len, self.rows))
        if self.rows and isinstance(self.rows[0][0], int) and any(len(one) > wanted for one in parameters):
            raise TypeError(f"there are {wanted} placeholders")
        return [[one[key] for one in parameters for key in keys] for keys in zip(*self.rows, strict=True)]


def _unquoted(name: str) -> str:
    if not name.startswith("`"):
        return name
    return _ESCAPED.sub(lambda match: match[1] or "`", name[1:-1])


@lru_cache(maxsize=64)
def insert_block(sql: str) -> InsertBlock | None:
    """Return the block that ``sql`` is; None for a statement with anything but placeholders in its rows.

    >>> insert_block("INSERT INTO db.t (a, `b c`) VALUES (%(a)s, %(b_c)s)").columns
    ('a', 'b c')
    >>> insert_block("INSERT INTO t (a) VALUES (now())") is None
    True
    """
    match = _INSERT.fullmatch(sql)
    if match is None:
        return None
    columns = tuple(_unquoted(name.replace("%%", "%")) for name in _FIRST_COLUMN.findall(match["columns"]))
    groups = re.finditer(_GROUP, match["rows"])
    rows = tuple(tuple(re.findall(_PLACEHOLDER, group[0])) for group in groups)
    if any(len(row) != len(columns) for row in rows):
        return None  # it is for the server to say what is wrong
    table, names = match["table"].replace("%%", "%"), [name for row in rows for name in row]
    if all(names):
        return InsertBlock(table, columns, rows)
    if any(names):
        return None
    places = count()
    return InsertBlock(table, columns, tuple(tuple(next(places) for _ in row) for row in rows))
