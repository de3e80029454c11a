"""Whether tables can be read and written, and whether the summaries say what their sources say."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb import migrations
from netra_chdb.dialect.view import views
from netra_chdb.models import analytics, traces
from netra_chdb.models.summary import Summary
from netra_chdb.validation.diagnosis import Diagnosis, Step, diagnose
from netra_chdb.validation.result import Finding, bad, good, odd

__all__ = ["SUMMARIES", "Look", "aggregates", "parts", "readable", "writable"]

Look: TypeAlias = Callable[[sa.Connection], Finding]

SUMMARIES: Final[tuple[Summary, ...]] = (*traces.SUMMARIES, *analytics.SUMMARIES)
#: How many keys of a summary are compared, from each side.
_SAMPLE: Final = 100
_TOLERANCE: Final = 1e-9
_TRIES: Final = 3
_PAUSE: Final = 0.5


def _name(connection: sa.Connection, table: Any) -> str:
    return str(connection.dialect.identifier_preparer.format_table(table))


def readable(connection: sa.Connection, database: str) -> Finding:
    """Read a row, all columns, of each table."""

    def read(table: sa.Table) -> None:
        connection.exec_driver_sql(f"SELECT ignore(*) FROM {_name(connection, table)} LIMIT 1").all()  # noqa: S608

    return _each(connection, database, read, "read")


def writable(connection: sa.Connection, database: str) -> Finding:
    """Write to each table and leave no trace: no row to the table itself, a row to an empty copy beside it.

    An INSERT of no rows goes through the table's views as any other: a right that is missing, a target that is gone
    or has other columns is found. The copy shows that the disk takes rows of this structure.
    """
    targets = {view.target for view in views(migrations.DATABASES[database])}
    scratch = f"probe_{uuid.uuid4().hex}"
    here: Any = {"clickhouse_cluster": False}
    connection.execute(sa.schema.CreateSchema(scratch), execution_options=here)

    def write(table: sa.Table) -> None:
        name = _name(connection, table)
        connection.exec_driver_sql(f"INSERT INTO {name} SELECT * FROM {name} WHERE 0")  # noqa: S608
        _write_copy(connection, scratch, table, name, is_target=table in targets)

    try:
        return _each(connection, database, write, "written to")
    finally:
        connection.execute(sa.schema.DropSchema(scratch), execution_options=here)


def _each(connection: sa.Connection, database: str, act: Callable[[sa.Table], None], done: str) -> Finding:
    tables = migrations.DATABASES[database].sorted_tables
    failed: dict[str, Diagnosis] = {}
    for table in tables:
        try:
            act(table)
        except Exception as error:
            failed[table.fullname] = found = diagnose(error, database)
            if found.step is not Step.STATEMENT:
                break  # the server is gone: the others would wait in vain
            connection.rollback()
    if not failed:
        return good(f"{len(tables)} tables can be {done}")
    evidence = "; ".join(f"{name} cannot be {done}: {found.evidence}" for name, found in failed.items())
    return bad(evidence, "; ".join(dict.fromkeys(found.recommendation for found in failed.values())))


def _write_copy(connection: sa.Connection, scratch: str, table: sa.Table, name: str, *, is_target: bool) -> None:
    full = connection.execute(
        sa.text("SELECT engine_full FROM system.tables WHERE database = :database AND name = :name"),
        {"database": table.schema, "name": table.name},
    ).scalar()
    if str(full).startswith(("Replicated", "Distributed")):
        return  # a copy would be one more replica under the same path, or write to the same shards
    copy = f"{scratch}.{connection.dialect.identifier_preparer.quote(table.name)}"
    connection.exec_driver_sql(f"CREATE TABLE {copy} AS {name}")
    column, value = ("created_on", "today()") if is_target else ("created_at", "now64(3)")
    connection.exec_driver_sql(f"INSERT INTO {copy} ({column}) SELECT {value}")
    if connection.exec_driver_sql(f"SELECT count() FROM {copy}").scalar() != 1:  # noqa: S608
        raise RuntimeError(f"a row that was written to an empty copy of {name} is not there")


def parts(connection: sa.Connection, database: str) -> Finding:
    """Look for parts that were detached."""
    rows = connection.execute(
        sa.text(
            "SELECT table, name, ifNull(reason, '') AS reason FROM system.detached_parts WHERE database = :database "
            "ORDER BY table, name"
        ),
        {"database": database},
    ).all()
    if not rows:
        return good("no detached parts")
    listed = ", ".join(f"{database}.{row.table} {row.name} ({row.reason or 'by hand'})" for row in rows[:5])
    evidence = f"{len(rows)} detached: {listed}{', ...' if len(rows) > 5 else ''}"
    broken = [row for row in rows if "broken" in row.reason or "unexpected" in row.reason]
    first = (broken or rows)[0]
    table = f"{database}.{first.table}"
    if broken:
        return bad(
            evidence,
            f"look at the disk and the server's log; restore the rows from a backup, or send them again; then "
            f"ALTER TABLE {table} DROP DETACHED PART '{first.name}' SETTINGS allow_drop_detached = 1",
        )
    return odd(
        evidence,
        f"its rows are not read: ALTER TABLE {table} ATTACH PART '{first.name}' brings them back, ALTER TABLE {table} "
        f"DROP DETACHED PART '{first.name}' SETTINGS allow_drop_detached = 1 removes them",
    )


# -- summaries ---------------------------------------------------------------------------------------------------------


def aggregates(connection: sa.Connection, summary: Summary) -> Finding:
    """Compare what a summary says with what its source says, for a sample of its keys."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)  # somebody may have been writing in between
        keys = _sample(connection, summary)
        if not keys:
            return good("neither it nor its source has rows")
        wrong = sorted(_wrong(connection, summary, keys), key=str)
        if not wrong:
            return good(f"equal to its source for {len(keys)} keys")
    shown = "; ".join(wrong[:3])
    source, target = summary.source.__table__.fullname, summary.target.__table__.fullname
    return bad(
        f"{len(wrong)} of {len(keys)} keys differ: {shown}",
        f"look whether {summary.view.fullname} was away while rows came; add to {target} what the view's query says "
        f"for those rows of {source}, or empty it and fill it anew from {source}",
    )


def _key_columns(summary: Summary) -> list[Any]:
    return [summary.source_query.selected_columns[key].element for key in summary.keys]


def _sample(connection: sa.Connection, summary: Summary) -> list[tuple[Any, ...]]:
    found: dict[tuple[Any, ...], None] = {}
    own = [getattr(summary.target, key) for key in summary.keys]
    for query, columns in ((summary.source_query, _key_columns(summary)), (summary.query, own)):
        # Not the first ones of the sort key, which are the same each time.
        picked = query.with_only_columns(*columns).order_by(func.rand()).limit(_SAMPLE)
        found |= dict.fromkeys(tuple(row) for row in connection.execute(picked))
    return list(found)


def _wrong(connection: sa.Connection, summary: Summary, keys: list[tuple[Any, ...]]) -> Iterator[str]:
    size = len(summary.keys)
    own = sa.tuple_(*(getattr(summary.target, key) for key in summary.keys))
    there = _answer(connection, summary.query.where(own.in_(keys)), size)
    right = _answer(connection, summary.source_query.where(sa.tuple_(*_key_columns(summary)).in_(keys)), size)
    for key in keys:
        mine, source = there.get(key), right.get(key)
        if mine is None and source is None:
            continue  # expired in between
        if mine is None or source is None or not all(map(_same, mine, source)):
            yield f"{key} has {mine}, its source {source}"


def _answer(connection: sa.Connection, query: Any, keys: int) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    return {tuple(row[:keys]): tuple(row[keys:]) for row in connection.execute(query)}


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        close = math.isclose(left, right, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        return close or (math.isnan(left) and math.isnan(right))
    return bool(left == right)
