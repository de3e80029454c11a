"""The server's own CREATE statement, taken apart: the one text in which a table is described in full."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from netra_chdb.dialect.type_parser import split_arguments, split_named

__all__ = ["CreateQuery", "read_create_query", "split_clauses"]

_ELEMENTS: Final = ("INDEX", "CONSTRAINT", "PROJECTION")
_COLUMN: Final = re.compile(r"\s(STATISTICS|SETTINGS|EXPRESSION|HIERARCHICAL|INJECTIVE|IS_OBJECT_ID|DEFAULT)\b")


@dataclass(frozen=True, slots=True)
class CreateQuery:
    """What stands in a CREATE statement; each dict goes by name, in the order of declaration.

    Attributes:
        columns: type and all that follows it.
        indexes: expression, TYPE and GRANULARITY.
        constraints: ``CHECK`` or ``ASSUME`` with the expression.
        projections: the query in brackets, or what else makes one.
        target: the table that a materialized view writes to, with its database; empty for all others.
        clauses: what follows the brackets.
        is_refreshed: whether it is a materialized view that runs by the clock.
    """

    columns: dict[str, str]
    indexes: dict[str, str]
    constraints: dict[str, str]
    projections: dict[str, str]
    target: str
    clauses: str
    is_refreshed: bool = False

    def column_clauses(self, name: str) -> dict[str, str]:
        """Return a column's clauses that DESCRIBE does not tell, by keyword."""
        return split_clauses(self.columns.get(name, ""), _COLUMN)[1]


def _brackets(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield the brackets outside quotes: where, which, and how many are open behind it."""
    depth, quoted, escaped = 0, "", False
    for position, char in enumerate(text):
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quoted:
                quoted = ""
        elif char in "'`\"":
            quoted = char
        elif char in "([":
            depth += 1
            yield position, char, depth
        elif char in ")]":
            depth -= 1
            yield position, char, depth


def _is_whole(text: str) -> bool:
    """Whether no quote and no bracket is open at the end of ``text``."""
    return len(split_arguments(f"{text} \0end", "\0")) == 2


def split_clauses(text: str, keywords: re.Pattern[str]) -> tuple[str, dict[str, str]]:
    """Split ``text`` at keywords that stand outside quotes and brackets.

    Args:
        text: SQL as the server prints it.
        keywords: matches white space and a keyword, which is its first group.

    Returns:
        What stands before the first keyword, and the text behind each.
    """
    head, clauses, current, start = "", {}, None, 0
    for match in keywords.finditer(text):
        before = text[start : match.start()]
        if before and not _is_whole(before):
            continue
        if current is None:
            head = before
        else:
            clauses[current] = before.strip()
        current, start = match[1], match.end(1)
    if current is None:
        head = text
    else:
        clauses[current] = text[start:].strip()
    return head.strip(), clauses


def read_create_query(sql: str) -> CreateQuery:
    """Take ``system.tables.create_table_query`` apart; it is empty for tables of the server's own."""
    if not sql:
        return CreateQuery({}, {}, {}, {}, target="", clauses="")
    # A view's query has brackets of its own.
    head = split_arguments(sql, " AS ")[0]
    opening, closing = len(head), len(head)
    for position, _, depth in _brackets(head):
        opening = min(opening, position)
        if depth == 0:
            closing = position
            break
    columns: dict[str, str] = {}
    elements: dict[str, dict[str, str]] = {kind: {} for kind in _ELEMENTS}
    for element in split_arguments(head[opening + 1 : closing]):
        kind, _, rest = element.partition(" ")
        # A column's name stands in backticks.
        name, text = split_named(rest if kind in elements else element)
        elements.get(kind, columns)[name or ""] = text
    made, *target = split_arguments(head[:opening], " TO ")
    return CreateQuery(
        columns,
        elements["INDEX"],
        elements["CONSTRAINT"],
        elements["PROJECTION"],
        target="".join(target),
        clauses=head[closing + 1 :].strip(),
        is_refreshed=len(split_arguments(made, " REFRESH ")) > 1,
    )
