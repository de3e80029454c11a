"""What to do about a table that is not what its model is: one change for each difference, tried on a copy.

A change is run by somebody in a hurry, who copies it out of one line of the report. So it mends what that line is
about and nothing else: above all it drops nothing that another line is about.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect.description import Description, Difference
from netra_chdb.migrations.alterations import alterations, place_in
from netra_chdb.migrations.column_text import parsed, quoted
from netra_chdb.migrations.operations import AlterTable, Refuse
from netra_chdb.validation.diagnosis import Step, diagnose

__all__ = ["advised", "is_extra"]

#: What a table may have more of: rows are written and read as before.
_HARMLESS: Final = frozenset({"column", "index", "projection"})
_BY_HAND: Final = "`alembic revision --autogenerate` writes the change"


def is_extra(one: Difference) -> bool:
    """Whether a difference is something that is there besides, and harms nobody."""
    return one.wanted is None and one.what in _HARMLESS


def advised(
    connection: sa.Connection, model: Description, other: Description, different: Iterable[Difference]
) -> Iterator[tuple[Difference, str]]:
    """Yield each difference with what mends it; each change comes after those before it.

    Args:
        connection: to the server; it may create and drop databases.
        model: what the model is.
        other: what the database has.
        different: the differences of the two.

    Raises:
        sqlalchemy.exc.DBAPIError: there is no connection any more, or no database can be created to try in.
    """
    here = list(different)
    if model.kind != "table" or other.kind != "table":
        whole = _advice(connection, model, other, _BY_HAND)
        yield from ((one, whole.text) for one in here)
        return
    renamed = _renamed(here)
    is_safe = not any(is_extra(one) for one in here)
    # Of a table with something more autogenerate would drop that as well.
    by_hand = _BY_HAND if is_safe else f"{_BY_HAND}, and drops what is not in the model: look at it before"
    now = other
    for one in here:
        if one.what == "column" and one.name in renamed:
            yield one, _rename(model.name, one, renamed[one.name])
        elif is_extra(one):
            # The others may be mended or not: what is more can go as the table is.
            text = _advice(connection, _mended(other, model, one), other, by_hand).text
            lost = "; what is in it is lost for good" if one.what == "column" else ""
            yield one, f"if nobody needs it: {text}{lost}"
        else:
            found = _advice(connection, goal := _mended(now, model, one), now, by_hand)
            if found.is_way:
                now = goal
            else:
                # Together with the others it may be possible, as a new column in the key is.
                alike = other
                for each in here:
                    alike = alike if is_extra(each) else _mended(alike, model, each)
                together = _advice(connection, alike, other, by_hand)
                found = together if together.is_way else found
            yield one, found.text


def _renamed(here: list[Difference]) -> dict[str, str]:
    """Return the columns that are missing and more under another name, both ways: each the only one of its type."""
    columns = [one for one in here if one.what == "column"]
    missing = [one for one in columns if one.found is None]
    more = [one for one in columns if one.wanted is None]
    found: dict[str, str] = {}
    for one in missing:
        same = [each for each in more if _type(each.found) == _type(one.wanted)]
        if len(same) == 1 and sum(_type(each.wanted) == _type(one.wanted) for each in missing) == 1:
            found |= {one.name: same[0].name, same[0].name: one.name}
    return found


def _type(text: str | None) -> str:
    return parsed(text or "")[""].strip()


def _rename(table: str, one: Difference, other: str) -> str:
    old, new = (other, one.name) if one.found is None else (one.name, other)
    return (
        f"it seems that {new} was renamed to {old} by hand: ALTER TABLE {table} RENAME COLUMN {quoted(old)} TO "
        f"{quoted(new)} keeps its values; adding one and dropping the other would lose them"
    )


def _mended(table: Description, model: Description, one: Difference) -> Description:
    """Return the table as it is when one difference is mended."""
    if one.what == "order of columns":
        return replace(table, columns=model.columns)
    parts = {key: text for key, text in table.parts.items() if key != (one.what, one.name)}
    if one.wanted is not None:
        parts[one.what, one.name] = one.wanted
    columns = list(table.columns)
    if one.what == "column" and one.wanted is None and one.name in columns:
        columns.remove(one.name)
    elif one.what == "column" and one.name not in columns:
        columns.insert(place_in(columns, model.columns, one.name), one.name)
    return replace(table, parts=parts, columns=tuple(columns))


class _Advice:
    """What to do, and whether it is something that can be done in place."""

    def __init__(self, text: str, *, is_way: bool) -> None:
        self.text, self.is_way = text, is_way


def _advice(connection: sa.Connection, goal: Description, other: Description, by_hand: str) -> _Advice:
    """Say what makes the table what the goal is; it was tried on a copy."""
    scratch = f"compare_{uuid.uuid4().hex}"
    connection.execute(sa.schema.CreateSchema(scratch))
    try:
        operations = list(alterations(goal, other, connection, scratch))
    except sa_exc.DBAPIError as error:
        # A table that the server would not make today, as by an ALTER that it checks less than a CREATE. What else
        # differs is to be told all the same.
        found = diagnose(error, goal.name)
        if found.step is not Step.STATEMENT:
            raise
        text = f"change it back by hand; a copy to try that on cannot be made: {found.evidence}"
        return _Advice(text, is_way=False)
    finally:
        connection.execute(sa.schema.DropSchema(scratch))
    refused = [operation.reason for operation in operations if isinstance(operation, Refuse)]
    if refused:
        return _Advice("; ".join(refused), is_way=False)
    changes = [change for operation in operations if isinstance(operation, AlterTable) for change in operation.changes]
    if changes:
        return _Advice(f"ALTER TABLE {goal.name} {', '.join(changes)}; {by_hand} as well", is_way=True)
    described = "; ".join(" ".join(map(str, operation.to_diff_tuple())) for operation in operations)
    return _Advice(f"{by_hand}: {described}", is_way=True)
