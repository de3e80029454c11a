"""What became of a batch whose sender got no answer, and what to mend. Each step is one function of a connection.

A token alone does not make a batch exactly-once on MergeTree: the server notes the token first and puts the part in
its place later, and what dies in between leaves a note without a part. So the rows are counted, once it is sure that
the attempt is not running any more. A batch is one part, so all of its rows are there or none. A summary's part may
be missing beside: a target is compared with the query over its source, and gets what it lacks from the source's rows.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb.dialect import UUID, Date, DateTime64
from netra_chdb.ingest.queued import Attempt, Queued
from netra_chdb.ingest.send import settings_for
from netra_chdb.ingest.shortfall import choices
from netra_chdb.models.summary import Summary

__all__ = ["count_rows", "is_remembered", "mend", "missing", "other_inserts", "stop"]

_RUNNING: Final = "query_id = :query_id OR Settings['log_comment'] = :query_id"
_WINDOW: Final = re.compile(r"\bnon_replicated_deduplication_window = (\d+)")
#: Parts that others may add between a look at the window and the sending.
_MARGIN: Final = 1000
#: Choices that are asked about before somebody else's writing is the likelier cause.
_TRIED: Final = 500
#: What a summary adds up exactly, batch by batch.
_ADDED: Final = frozenset({"count", "countIf", "sum"})
_TOLERANCE: Final = 1e-9

Answer = Mapping[tuple[Any, ...], tuple[Any, ...]]
#: A group of a summary, and the number of one of its measures.
Place = tuple[tuple[Any, ...], int]


def stop(connection: sa.Connection, query_id: str, *, within: float = 5.0) -> bool:
    """Make sure that a query is not running; kill it if it is.

    Args:
        connection: to the server.
        query_id: the attempt's.
        within: seconds to wait for its end.

    Returns:
        Whether it is surely not running.
    """
    if not query_id:
        return True
    running = sa.text(f"SELECT count() FROM system.processes WHERE {_RUNNING}")  # noqa: S608
    deadline = time.monotonic() + within
    killed = False
    while connection.execute(running, {"query_id": query_id}).scalar_one():
        if not killed:
            connection.execute(sa.text(f"KILL QUERY WHERE {_RUNNING} ASYNC"), {"query_id": query_id})
            killed = True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _own_rows(queued: Queued) -> tuple[sa.TableClause, sa.ColumnElement[bool]]:
    columns: list[Any] = [sa.column("batch_id", UUID()), sa.column("created_at", DateTime64(3, "UTC"))]
    table = sa.table(queued.name, *columns, schema=queued.schema or None)
    # By created_at as well: rows of a batch are scattered over the sort key, but lie in one partition.
    return table, sa.and_(table.c.batch_id == queued.batch_id, table.c.created_at == queued.created_at)


def count_rows(connection: sa.Connection, queued: Queued) -> int:
    """Count a batch's rows in its table."""
    table, own = _own_rows(queued)
    return int(connection.execute(sa.select(func.count()).select_from(table).where(own)).scalar_one())


def is_remembered(connection: sa.Connection, queued: Queued) -> bool:
    """Whether the table still knows the token of a batch that is stored, so that sending it again adds nothing.

    The server remembers a number of parts, whoever wrote them. Parts are numbered, so how many came since is known.
    """
    names = {"database": queued.schema or connection.dialect.default_schema_name, "name": queued.name}
    described = connection.execute(
        sa.text("SELECT engine_full FROM system.tables WHERE database = :database AND name = :name"), names
    ).scalar()
    window = _WINDOW.search(described or "")
    if window is None:
        return False
    table, own = _own_rows(queued)
    mine: Sequence[Any] = (
        connection.execute(sa.select(sa.column("_part")).select_from(table).where(own).distinct()).scalars().all()
    )
    parts = connection.execute(
        sa.text(
            "SELECT name, min_block_number, max_block_number FROM system.parts "
            "WHERE database = :database AND table = :name"
        ),
        names,
    ).all()
    # A merged part begins with its oldest block: the number is a lower bound, and errs on the safe side.
    first = min((part.min_block_number for part in parts if part.name in mine), default=None)
    last = max((part.max_block_number for part in parts), default=0)
    return first is not None and last - first + _MARGIN < int(window[1])


def other_inserts(connection: sa.Connection, queued: Queued) -> int:
    """How many inserts into a batch's table are running: their rows may be in the table and not yet in a summary."""
    statement = sa.text(
        "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND position(query, :name) > 0"
    )
    return int(connection.execute(statement, {"name": queued.name}).scalar_one())


# -- summaries -----------------------------------------------------------------


def missing(connection: sa.Connection, summary: Summary, batches: Sequence[Queued]) -> frozenset[Queued] | None:
    """Find out which of ``batches`` a summary lacks.

    It compares, for all that the batches touch, the summary's answer with the source's. Where they differ, counts
    and sums say which choices of batches may be what is missing; it is the one without which the two are equal.

    Args:
        connection: to the server.
        summary: a summary of the batches' table.
        batches: stored batches, all rows in the table; every one that the summary may lack, since what one of them
            touches another one may touch as well.

    Returns:
        Those that it lacks; None when no choice explains what it says (somebody else is writing just now).
    """
    if other_inserts(connection, batches[0]):
        return None
    there = _answer(connection, _of_target(summary, batches), len(summary.keys))
    whole = _answer(connection, _of_source(summary, batches, ()), len(summary.keys))
    if _equal(there, whole):
        return frozenset()
    for choice in itertools.islice(_choices(connection, summary, batches, there, whole), _TRIED):
        if _equal(there, _answer(connection, _of_source(summary, batches, choice), len(summary.keys))):
            return None if other_inserts(connection, batches[0]) else frozenset(choice)
    return None


def _choices(
    connection: sa.Connection, summary: Summary, batches: Sequence[Queued], there: Answer, whole: Answer
) -> Iterator[tuple[Queued, ...]]:
    """Yield the choices of batches that add what a summary's counts and sums are short of, and explain its averages."""
    keys = len(summary.keys)
    measures = [column.element for column in list(summary.source_query.selected_columns)[keys:]]
    added = [place for place, measure in enumerate(measures) if measure.name in _ADDED]
    averages = {place: measure.clauses for place, measure in enumerate(measures) if measure.name == "avg"}
    counted = [func.count(*of) for of in averages.values()]

    def amounts(answer: Answer) -> dict[Place, int]:
        return {(key, place): row[place] for key, row in answer.items() for place in added}

    def totals(key: tuple[Any, ...], row: Sequence[Any]) -> dict[Place, tuple[float, int]]:
        """Sum and count of what is averaged."""
        counts = row[len(measures) :]
        return {(key, place): ((row[place] or 0.0) * n, n) for place, n in zip(averages, counts, strict=True)}

    lacking = Counter(amounts(whole))
    lacking.subtract(amounts(there))
    if min(lacking.values(), default=0) < 0:
        return
    all_of_it: dict[Place, tuple[float, int]] = {}
    for (*group,) in connection.execute(_of_source(summary, batches, ()).add_columns(*counted)):
        all_of_it.update(totals(tuple(group[:keys]), group[keys:]))
    each = _of_source(summary, batches, ()).add_columns(*counted, summary.source.batch_id)
    own = each.group_by(summary.source.batch_id).where(
        summary.source.batch_id.in_([queued.batch_id for queued in batches])
    )
    parts: dict[uuid.UUID, dict[Place, int]] = {queued.batch_id: {} for queued in batches}
    averaged: dict[uuid.UUID, dict[Place, tuple[float, int]]] = {queued.batch_id: {} for queued in batches}
    for *row, batch_id in connection.execute(own):
        key = tuple(row[:keys])
        parts[batch_id].update(amounts({key: tuple(row[keys:])}))
        averaged[batch_id].update(totals(key, row[keys:]))

    def explains(choice: tuple[Queued, ...]) -> bool:
        # Batches of like counts and sums are many; what they average tells them apart without a question each.
        left = dict(all_of_it)
        for queued in choice:
            for name, (total, n) in averaged[queued.batch_id].items():
                left[name] = (left[name][0] - total, left[name][1] - n)
        return all(
            not n or (key in there and _same(float(there[key][place] or 0.0), total / n))
            for (key, place), (total, n) in left.items()
        )

    for choice in choices(lacking, [parts[queued.batch_id] for queued in batches]):
        found = tuple(batches[place] for place in choice)
        if explains(found):
            yield found


def _keys(summary: Summary) -> list[Any]:
    return [summary.source_query.selected_columns[key].element for key in summary.keys]


def _touched(summary: Summary, batches: Sequence[Queued]) -> sa.Select[Any]:
    source = summary.source
    return (
        sa.select(*_keys(summary))
        .where(
            source.batch_id.in_([queued.batch_id for queued in batches]),
            source.created_at.in_([queued.created_at for queued in batches]),
        )
        .distinct()
    )


def _days(batches: Sequence[Queued]) -> list[dt.date]:
    return sorted({queued.created_at.date() for queued in batches})


def _of_target(summary: Summary, batches: Sequence[Queued]) -> sa.Select[Any]:
    target = summary.target
    keys = sa.tuple_(*(getattr(target, key) for key in summary.keys))
    return summary.query.where(target.created_on.in_(_days(batches)), keys.in_(_touched(summary, batches)))


def _of_source(summary: Summary, batches: Sequence[Queued], without: Sequence[Queued]) -> sa.Select[Any]:
    source, days = summary.source, _days(batches)
    start = dt.datetime.combine(days[0], dt.time(), dt.UTC)
    end = dt.datetime.combine(days[-1], dt.time(), dt.UTC) + dt.timedelta(days=1)
    query = summary.source_query.where(
        source.created_at >= start,
        source.created_at < end,
        func.toDate(source.created_at, type_=Date).in_(days),
        sa.tuple_(*_keys(summary)).in_(_touched(summary, batches)),
    )
    return query.where(source.batch_id.not_in([queued.batch_id for queued in without])) if without else query


def _answer(connection: sa.Connection, query: sa.Select[Any], keys: int) -> Answer:
    return {tuple(row[:keys]): tuple(row[keys:]) for row in connection.execute(query)}


def _equal(left: Answer, right: Answer) -> bool:
    return left.keys() == right.keys() and all(
        _same(mine, other) for key in left for mine, other in zip(left[key], right[key], strict=True)
    )


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        # Sums of floats depend on their order; not-a-number is the same as itself here.
        close = math.isclose(left, right, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        return close or (math.isnan(left) and math.isnan(right))
    return bool(left == right)


def mend(connection: sa.Connection, summary: Summary, queued: Queued, attempt: Attempt) -> None:
    """Add to a summary what a stored batch should have added, from the batch's rows in the source.

    Raises:
        sqlalchemy.exc.DBAPIError: the server refused it, or did not say: compare again.
    """
    source = summary.source
    states = summary.view.selectable.where(source.batch_id == queued.batch_id, source.created_at == queued.created_at)
    target = summary.target.__table__
    insert = sa.insert(target).from_select(list(states.selected_columns.keys()), states, include_defaults=False)
    options = {"settings": settings_for(connection, attempt), "netra_statement": "batch"}
    connection.execute(insert, execution_options=options)
