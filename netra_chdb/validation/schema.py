"""Both databases against the models: every table and view, part by part, in the server's own words."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import migrations
from netra_chdb.dialect.description import Description, Difference, describe_models, differences
from netra_chdb.migrations.alterations import alterations
from netra_chdb.migrations.cluster_described import describe_database
from netra_chdb.migrations.operations import AlterTable, Refuse
from netra_chdb.migrations.version import OURS
from netra_chdb.validation.diagnosis import Step, diagnose
from netra_chdb.validation.result import Finding, bad, odd

__all__ = ["compare_with_models"]

_SHOWN: Final = 200
#: What a table may have more of: rows are written and read as before.
_HARMLESS: Final = frozenset({"column", "index", "projection"})
_BY_HAND: Final = "`alembic revision --autogenerate` writes the change"


def compare_with_models(connection: sa.Connection, database: str) -> Iterator[tuple[str, Finding]]:
    """Yield what is not as the models have it, with a name for it; nothing if all is.

    Args:
        connection: to the server; it may create and drop databases.
        database: one of ours.
    """
    prefix = f"{database}."
    metadata = migrations.DATABASES[database]
    wanted = {name: one for name, one in describe_models(connection, metadata).items() if one.name.startswith(prefix)}
    found = {one.name: one for name, one in describe_database(connection, database).items() if not OURS.fullmatch(name)}
    for name, model in wanted.items():
        if name not in found:
            yield f"{model.kind} {name}", _missing(model)
        else:
            yield from _changed(connection, model, found[name])
    for name, other in found.items():
        if name not in wanted:
            evidence = f"{name} is in no model"
            yield f"{other.kind} {name}", odd(evidence, "drop it, or move it to another database, if nobody needs it")


def _missing(model: Description) -> Finding:
    advice = f"put it back with its CREATE statement from `alembic upgrade head --sql`: {model.kind} {model.name}"
    if model.kind == "materialized view":
        advice += "; rows that came in between are missing in its target: `INSERT INTO ... SELECT` them"
    return bad(f"{model.name} is missing", advice)


def _changed(connection: sa.Connection, model: Description, other: Description) -> Iterator[tuple[str, Finding]]:
    different = list(differences(model, other))
    if not different:
        return
    advice = _advice(connection, model, other)
    for one in different:
        extra = one.wanted is None and one.what in _HARMLESS
        finding = odd(_words(one), f"if nobody needs it: {advice}") if extra else bad(_words(one), advice)
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


def _advice(connection: sa.Connection, model: Description, other: Description) -> str:
    """Say what makes the table what the model is; it was tried on a copy."""
    scratch = f"compare_{uuid.uuid4().hex}"
    connection.execute(sa.schema.CreateSchema(scratch))
    try:
        operations = list(alterations(model, other, connection, scratch))
    except sa_exc.DBAPIError as error:
        # A table that the server would not make today, as by an ALTER that it checks less than a CREATE. What else
        # differs is to be told all the same.
        found = diagnose(error, model.name)
        if found.step is not Step.STATEMENT:
            raise
        return f"change it back by hand; a copy to try that on cannot be made: {found.evidence}"
    finally:
        connection.execute(sa.schema.DropSchema(scratch))
    refused = [operation.reason for operation in operations if isinstance(operation, Refuse)]
    if refused:
        return "; ".join(refused)
    changes = [change for operation in operations if isinstance(operation, AlterTable) for change in operation.changes]
    if changes:
        return f"ALTER TABLE {model.name} {', '.join(changes)}; {_BY_HAND} as well"
    return f"{_BY_HAND}: {'; '.join(' '.join(map(str, operation.to_diff_tuple())) for operation in operations)}"
