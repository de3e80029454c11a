"""A column as text, as it stands in the server's CREATE TABLE: taken apart, and turned into another one."""

from __future__ import annotations

import re
from typing import Final

from netra_chdb.dialect.create_query import split_clauses
from netra_chdb.migrations.evidence import names_in

__all__ = ["names_read", "parsed", "placed", "quoted", "turned"]

_COLUMN: Final = re.compile(
    r"(?:^|\s)(DEFAULT|MATERIALIZED|EPHEMERAL|ALIAS|COMMENT|CODEC|STATISTICS|TTL|SETTINGS)(?=[\s(]|$)"
)
_STRING: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_KINDS: Final = frozenset({"DEFAULT", "MATERIALIZED", "EPHEMERAL", "ALIAS"})


def quoted(name: str) -> str:
    """Return a name as it stands in SQL."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def turned(column: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return what makes one column of another: what it gets, and each thing that it loses."""
    changes = []
    if any(old.get(key) != text for key, text in new.items()):
        changes.append(f"MODIFY COLUMN {quoted(column)} {_written(new)}")
    # One kind of default takes the place of another.
    kept = new.keys() | (_KINDS if new.keys() & _KINDS else set())
    return changes + [_removed(column, key) for key in old if key not in kept]


def _removed(column: str, key: str) -> str:
    if key == "STATISTICS":
        return f"DROP STATISTICS {quoted(column)}"
    return f"MODIFY COLUMN {quoted(column)} REMOVE {key}"


def parsed(text: str) -> dict[str, str]:
    head, clauses = split_clauses(text, _COLUMN)
    return {"": head, **clauses}


def names_read(text: str) -> set[str]:
    """Return the names in a column's default and TTL; functions are among them."""
    parts = parsed(text)
    expressions = " ".join(parts.get(key, "") for key in (*_KINDS, "TTL"))
    return set(names_in(_STRING.sub("''", expressions)))


def placed(text: str) -> str:
    """Return a column's text for ALTER, to be followed by its place."""
    return _written(parsed(text))


def _written(parts: dict[str, str]) -> str:
    if parts.get("EPHEMERAL") == "" and "COMMENT" not in parts:
        # What follows would be read as its expression: AFTER, FIRST and CODEC are names as well.
        parts = {"": parts[""], "EPHEMERAL": "", "COMMENT": "''", **parts}
    return " ".join(f"{key}{'' if key in ('', 'CODEC') or not text else ' '}{text}" for key, text in parts.items())
