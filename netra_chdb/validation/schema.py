"""Both databases against the models: every table and view, part by part, in the server's own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import migrations
from netra_chdb.dialect.description import Description, Difference, describe_models, differences
from netra_chdb.errors import code_of
from netra_chdb.migrations.cluster_described import describe_database
from netra_chdb.migrations.scratch import drop_left_over
from netra_chdb.migrations.version import OURS
from netra_chdb.validation.advice import advised, is_extra
from netra_chdb.validation.result import Finding, bad, odd

__all__ = ["compare_with_models", "detached"]

_SHOWN: Final = 200
#: A server that has no such table, or does not show it to this user.
_UNTOLD: Final = frozenset({60, 497})


def compare_with_models(connection: sa.Connection, database: str) -> Iterator[tuple[str, Finding]]:
    """Yield what is not as the models have it, with a name for it; nothing if all is.

    Args:
        connection: to the server; it may create and drop databases.
        database: one of ours.
    """
    drop_left_over(connection)
    prefix = f"{database}."
    metadata = migrations.DATABASES[database]
    wanted = {name: one for name, one in describe_models(connection, metadata).items() if one.name.startswith(prefix)}
    found = {one.name: one for name, one in describe_database(connection, database).items() if not OURS.fullmatch(name)}
    aside = set() if wanted.keys() <= found.keys() else detached(connection, database)
    for name, model in wanted.items():
        if name not in found:
            yield f"{model.kind} {name}", _missing(model, aside)
        else:
            yield from _changed(connection, model, found[name])
    for name, other in found.items():
        if name not in wanted:
            evidence = f"{name} is in no model"
            yield f"{other.kind} {name}", odd(evidence, "drop it, or move it to another database, if nobody needs it")


def detached(connection: sa.Connection, database: str) -> set[str]:
    """Return the names of what was detached: it is there, and the server does not use it."""
    try:
        rows = connection.execute(
            sa.text("SELECT table FROM system.detached_tables WHERE database = :database"), {"database": database}
        )
    except sa_exc.DBAPIError as error:
        if code_of(error) not in _UNTOLD:
            raise
        return set()
    return {str(name) for name in rows.scalars()}


def _missing(model: Description, aside: set[str]) -> Finding:
    later = ""
    if model.kind == "materialized view":
        later = "; rows that came in between are missing in its target: `INSERT INTO ... SELECT` them"
    if model.name.partition(".")[2] in aside:
        # Its name is taken: CREATE is refused, and would be another table without the rows.
        return bad(f"{model.name} is detached, so that it is missing", f"ATTACH TABLE {model.name}{later}")
    advice = f"put it back with its CREATE statement from `alembic upgrade head --sql`: {model.kind} {model.name}"
    return bad(f"{model.name} is missing", advice + later)


def _changed(connection: sa.Connection, model: Description, other: Description) -> Iterator[tuple[str, Finding]]:
    different = list(differences(model, other))
    if not different:
        return
    for one, advice in advised(connection, model, other, different):
        finding = odd(_words(one), advice) if is_extra(one) else bad(_words(one), advice)
        yield f"{one.what} {model.name}{'.' if one.name else ''}{one.name}", finding


def _words(one: Difference) -> str:
    """Say what differs; of two long texts, what is around the first difference."""
    wanted, found = one.wanted, one.found
    if wanted is None or found is None or len(wanted) + len(found) <= _SHOWN:
        return str(one) if len(str(one)) <= 2 * _SHOWN else f"{str(one)[: 2 * _SHOWN]}..."
    same = next((place for place, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), 0)
    start = max(0, same - _SHOWN // 8)

    def near(text: str) -> str:
        end = start + _SHOWN // 2
        return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"

    return f"{one.table}: {f'{one.what} {one.name}'.strip()} is {near(found)}, the model has {near(wanted)}"
