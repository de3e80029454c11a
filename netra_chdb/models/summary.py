"""A summary: a table of aggregate states, the view that fills it, and the two queries that must agree.

What a summary answers is what the same question over its source answers, before and after any merge, for the rows
that have not expired. Each measure below therefore says three things at once: the state that the view stores, how
to finish it, and what the source is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb.dialect import Array, Date, Float64, MaterializedView, String, UInt64

__all__ = [
    "Measure",
    "Summary",
    "average",
    "count",
    "distinct",
    "earliest",
    "greatest",
    "least",
    "percentiles",
    "total",
]


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of a summary.

    Attributes:
        column: the target's column.
        state: what the view writes into it.
        results: for each number that it gives: how to finish the state, and the same over the source.
    """

    column: str
    state: Any
    results: Mapping[str, tuple[Any, Any]]


def _measure(into: Any, state: Any, finished: Any, direct: Any) -> Measure:
    return Measure(into.key, state, {into.key: (finished, direct)})


def count(into: Any, where: Any = None) -> Measure:
    """The number of rows, or of those ``where`` something holds."""
    counted = func.count(type_=UInt64) if where is None else func.countIf(where, type_=UInt64)
    return _measure(into, counted, func.sum(into, type_=UInt64), counted)


def total(into: Any, of: Any) -> Measure:
    """The sum of whole numbers."""
    added = func.sum(of, type_=UInt64)
    return _measure(into, added, func.sum(into, type_=UInt64), added)


def greatest(into: Any, of: Any) -> Measure:
    """The greatest value."""
    return _measure(into, func.max(of), func.max(into, type_=of.type), func.max(of))


def least(into: Any, of: Any) -> Measure:
    """The least value."""
    return _measure(into, func.min(of), func.min(into, type_=of.type), func.min(of))


def average(into: Any, of: Any) -> Measure:
    """The mean; sums of floats depend on their order, so it is equal within 1e-12."""
    return _measure(into, func.avgState(of), func.avgMerge(into, type_=Float64), func.avg(of, type_=Float64))


def distinct(into: Any, of: Any) -> Measure:
    """The number of different values, exactly."""
    return _measure(
        into, func.uniqExactState(of), func.uniqExactMerge(into, type_=UInt64), func.uniqExact(of, type_=UInt64)
    )


def earliest(into: Any, of: Any, *order: Any) -> Measure:
    """The value of the row that is first by ``order``: one and the same after any merge, unlike ``any``."""
    first = func.tuple(*order)
    return _measure(
        into, func.argMinState(of, first), func.argMinMerge(into, type_=String), func.argMin(of, first, type_=String)
    )


def percentiles(into: Any, of: Any, **levels: float) -> Measure:
    """Exact percentiles: ``percentiles(column, value, p50=0.5)``; one state holds them all."""
    at = tuple(levels.values())
    finished: Any = func.quantilesExactMerge(*at, into, type_=Array(Float64))
    direct: Any = func.quantilesExact(*at, of, type_=Array(Float64))

    def element(of_array: Any, position: int) -> Any:
        return func.arrayElement(of_array, position, type_=Float64)

    return Measure(
        into.key,
        func.quantilesExactState(*at, of),
        {name: (element(finished, place), element(direct, place)) for place, name in enumerate(levels, start=1)},
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """One summary.

    Attributes:
        name: the target table's name.
        source: the model whose rows it adds up.
        target: the model that holds the states.
        keys: what it is grouped by.
        view: fills the target; its ``selectable`` over the rows of one batch is what mends a target that lacks them.
        query: the summary's answer: keys and finished measures, one row for each key.
        source_query: the same answer from the source's rows.
    """

    name: str
    source: Any
    target: Any
    keys: tuple[str, ...]
    view: MaterializedView
    query: sa.Select[Any]
    source_query: sa.Select[Any]

    @classmethod
    def declare(
        cls, view: str, source: Any, target: Any, *, keys: Mapping[str, Any], measures: Sequence[Measure]
    ) -> Summary:
        """Declare the view beside its target, and the queries.

        Args:
            view: the view's name.
            source: the model it reads.
            target: the model it fills.
            keys: for each key of ``target``, its expression over ``source``; ``created_on`` comes by itself.
            measures: the other columns.
        """
        created_on = func.toDate(source.created_at, type_=Date)
        over_source = [expression.label(key) for key, expression in keys.items()]
        states = sa.select(
            *over_source, created_on.label("created_on"), *(measure.state.label(measure.column) for measure in measures)
        ).group_by(*keys.values(), created_on)
        results = [result for measure in measures for result in measure.results.items()]
        grouped = [getattr(target, key) for key in keys]
        query = (
            sa.select(*grouped, *(finished.label(name) for name, (finished, _) in results))
            .where(_unexpired(target.created_on, target.kept_days))
            .group_by(*grouped)
        )
        source_query = (
            sa.select(*over_source, *(direct.label(name) for name, (_, direct) in results))
            .where(_unexpired(created_on, source.kept_days))
            .group_by(*keys.values())
        )
        table = target.__table__
        return cls(table.name, source, target, tuple(keys), MaterializedView(view, table, states), query, source_query)


def _unexpired(created_on: Any, days: int) -> Any:
    # Expired rows stay until a merge drops them, here earlier and there later: neither side counts them.
    return created_on + func.toIntervalDay(days) > func.today()
