"""Aggregates, combinators, lambdas, intervals, windows: right for each value, from one compilation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb.dialect import Int32, UInt64, interval, lambda_, parametric, select
from netra_chdb.dialect.literals import literal
from tests.dialect.sql_samples import Case, check


def one(
    build: Callable[[Any, Any], Any],
    plain: str,
    first: Any,
    second: Any,
    *,
    same: bool = False,
) -> Case:
    """A case that selects one expression over the events, for each user."""
    name = plain.replace("{v}", "v")
    return Case(
        name,
        lambda s, v: select(s.e.user, build(s.e, v)).final().group_by(s.e.user).order_by(s.e.user),
        f"SELECT user, {plain} FROM {{db}}.events FINAL GROUP BY user ORDER BY user",
        ((first, literal(first)), (second, literal(second))),
        plain,
        same=same,
    )


def each(build: Callable[[Any, Any], Any], plain: str, first: Any, second: Any, **options: bool) -> Case:
    """A case that selects one expression for each event."""
    return Case(
        plain.replace("{v}", "v"),
        lambda s, v: select(s.e.id, build(s.e, v)).final().order_by(s.e.id),
        f"SELECT id, {plain} FROM {{db}}.events FINAL ORDER BY id",
        ((first, literal(first)), (second, literal(second))),
        plain,
        **options,
    )


AGGREGATES = [
    one(lambda e, v: func.sumIf(e.amount, e.id > v), "sumIf(amount, id > {v})", 10, 20),
    one(lambda e, v: func.countIf(e.value > v), "countIf(value > {v})", 10.5, 20.5),
    one(lambda e, v: func.avgIf(e.maybe, e.id > v), "avgIf(maybe, id > {v})", 10, 20),
    one(lambda e, v: func.minIf(e.at, e.id > v), "minIf(at, id > {v})", 10, 20),
    one(lambda e, v: func.maxIfOrNull(e.amount, e.id > v), "maxIfOrNull(amount, id > {v})", 10, 100),
    one(lambda e, v: func.sumOrDefaultIf(e.amount, e.id > v), "sumOrDefaultIf(amount, id > {v})", 10, 100),
    one(lambda e, v: func.sumArrayIf(e.counts, e.id > v), "sumArrayIf(counts, id > {v})", 10, 20),
    one(lambda e, v: func.sumForEach(e.counts), "sumForEach(counts)", 0, 0, same=True),
    one(lambda e, v: func.sumDistinctIf(e.amount % v, e.id > v), "sumDistinctIf(amount % {v}, id > {v})", 5, 7),
    one(lambda e, v: func.finalizeAggregation(func.sumIfState(e.amount, e.id > v)),
        "finalizeAggregation(sumIfState(amount, id > {v}))", 10, 20),
    one(lambda e, v: func.uniqExactIf(e.kind, e.id < v), "uniqExactIf(kind, id < {v})", 5, 60),
    one(lambda e, v: func.argMax(e.kind, e.id % v), "argMax(kind, id % {v})", 7, 11),
    one(lambda e, v: func.argMinIf(e.kind, e.id, e.id > v), "argMinIf(kind, id, id > {v})", 10, 20),
    one(lambda e, v: func.anyLastIf(e.kind, e.id == v), "anyLastIf(kind, id = {v})", 8, 9),
    one(lambda e, v: func.retention(e.id == 0, e.id > v), "retention(id = 0, id > {v})", 1, 100),
    one(lambda e, v: func.sum(e.amount).filter(e.id > v), "sum(amount) FILTER (WHERE id > {v})", 10, 20),
]  # fmt: skip

PARAMETRIC = [
    one(lambda e, v: func.quantileExact(v, e.amount), "quantileExact({v})(amount)", 0.5, 0.9),
    one(lambda e, v: func.quantileExactIf(v, e.amount, e.id > 9), "quantileExactIf({v})(amount, id > 9)", 0.5, 0.9),
    one(lambda e, v: func.quantilesExact(0.1, v, e.value), "quantilesExact(0.1, {v})(value)", 0.5, 0.9),
    one(lambda e, v: func.quantilesExactArray(0.1, v, e.counts), "quantilesExactArray(0.1, {v})(counts)", 0.5, 0.9),
    one(lambda e, v: func.quantileExactWeighted(v, e.amount, e.id), "quantileExactWeighted({v})(amount, id)", 0.2, 0.9),
    one(lambda e, v: func.topK(v, e.id), "topK({v})(id)", 2, 4),
    one(lambda e, v: func.topKIf(v, e.id, e.id > 9), "topKIf({v})(id, id > 9)", 2, 4),
    one(lambda e, v: func.topKWeighted(v, e.id, e.amount + 10), "topKWeighted({v})(id, amount + 10)", 2, 4),
    one(lambda e, v: func.groupArraySorted(v, e.id), "groupArraySorted({v})(id)", 2, 4),
    one(lambda e, v: func.length(func.groupArray(v, e.id)), "length(groupArray({v})(id))", 2, 4),
    one(lambda e, v: func.arraySort(func.groupArray(e.id % v)), "arraySort(groupArray(id % {v}))", 3, 4),
    one(lambda e, v: func.length(func.groupUniqArray(v, e.id)), "length(groupUniqArray({v})(id))", 2, 4),
    one(lambda e, v: func.uniqUpTo(v, e.id), "uniqUpTo({v})(id)", 2, 4),
    one(lambda e, v: func.uniqCombined(v, e.id, e.kind), "uniqCombined({v})(id, kind)", 12, 17, same=True),
    one(lambda e, v: func.uniqCombined(e.id % v, e.kind), "uniqCombined(id % {v}, kind)", 1, 5),
    one(lambda e, v: func.histogram(v, e.value), "histogram({v})(value)", 2, 3),
    one(lambda e, v: func.exponentialMovingAverage(v, e.value, e.id), "exponentialMovingAverage({v})(value, id)", 5, 9),
    one(
        lambda e, v: func.windowFunnel(v, func.toDateTime(e.at), e.kind == "view", e.kind == "click", e.kind == "buy"),
        "windowFunnel({v})(toDateTime(at), kind = 'view', kind = 'click', kind = 'buy')", 300, 600,
    ),
    one(
        lambda e, v: func.windowFunnel(3600, v, func.toDateTime(e.at), e.kind == "buy", e.id % 5 == 1, e.id % 7 == 1),
        "windowFunnel(3600, {v})(toDateTime(at), kind = 'buy', id % 5 = 1, id % 7 = 1)",
        "strict_order", "strict_increase", same=True,
    ),
    one(
        lambda e, v: func.sequenceMatch(v, func.toDateTime(e.at), e.kind == "view", e.id == 13),
        "sequenceMatch({v})(toDateTime(at), kind = 'view', id = 13)", "(?1)(?2)", "(?1)(?1)(?1)(?1)(?2)",
    ),
    one(
        lambda e, v: func.sequenceCountIf(v, func.toDateTime(e.at), e.kind == "view", e.kind == "buy", e.id > 3),
        "sequenceCountIf({v})(toDateTime(at), kind = 'view', kind = 'buy', id > 3)", "(?1).*(?2)", "(?1)(?2)(?1)",
    ),
    one(lambda e, v: parametric("topK", v)(e.id), "topK({v})(id)", 2, 4),
    one(lambda e, v: parametric("sumMapFiltered", v)(e.counts, e.counts), "sumMapFiltered({v})(counts, counts)",
        [1, 2], [3]),
]  # fmt: skip

LAMBDAS = [
    each(lambda e, v: func.arrayMap(lambda x: x * v, e.counts), "arrayMap(x -> x * {v}, counts)", 2, 3),
    each(
        lambda e, v: func.arrayMap(lambda x, y: func.concat(x, y, v), e.tags, e.tags),
        "arrayMap((x, y) -> concat(x, y, {v}), tags, tags)", "a'b", "\\ :x",
    ),
    each(lambda e, v: func.arrayFilter(lambda x: x > v, e.counts), "arrayFilter(x -> x > {v}, counts)", 1, 2),
    each(lambda e, v: func.arrayExists(lambda x: x == v, e.tags), "arrayExists(x -> x = {v}, tags)", "tag-1", "tag-2"),
    each(lambda e, v: func.arrayAll(lambda x: x < v, e.counts), "arrayAll(x -> x < {v}, counts)", 2, 3),
    each(lambda e, v: func.arrayCount(lambda x: x < v, e.counts), "arrayCount(x -> x < {v}, counts)", 2, 3),
    each(lambda e, v: func.arrayFirst(lambda x: x > v, e.counts), "arrayFirst(x -> x > {v}, counts)", 1, 2),
    each(lambda e, v: func.arraySum(lambda x: x + v, e.counts), "arraySum(x -> x + {v}, counts)", 1, 2),
    each(lambda e, v: func.arraySort(lambda x: (x + v) % 3, e.counts), "arraySort(x -> (x + {v}) % 3, counts)", 1, 2),
    each(
        lambda e, v: func.arrayFold(lambda total, x: total + x * v, e.counts, func.toInt64(0, type_=UInt64)),
        "arrayFold((total, x) -> total + x * {v}, counts, toInt64(0))", 1, 2,
    ),
    each(
        lambda e, v: func.arrayMap(lambda x: func.arrayCount(lambda y: y > x + v, e.counts), e.counts),
        "arrayMap(x -> arrayCount(y -> y > x + {v}, counts), counts)", 0, 1,
    ),
    each(lambda e, v: func.arrayMap(lambda x: x + e.amount + v, e.counts), "arrayMap(x -> x + amount + {v}, counts)",
         0, 1),
    each(lambda e, v: func.mapFilter(lambda k, n: n > v, e.attributes), "mapFilter((k, n) -> n > {v}, attributes)",
         9, 30),
    each(
        lambda e, v: func.mapApply(lambda k, n: func.tuple(k, n + v), e.attributes),
        "mapApply((k, n) -> tuple(k, n + {v}), attributes)", 9, 30,
    ),
    each(lambda e, v: func.arrayMap(lambda_(lambda x: x + v, Int32), e.counts), "arrayMap(x -> x + {v}, counts)", 1, 2),
    each(
        lambda e, v: func.arrayReverseFill(lambda_(lambda x: x > v), e.counts),
        "arrayReverseFill(x -> x > {v}, counts)", 1, 2,
    ),
]  # fmt: skip


def _rounded(unit: str, e: Any, v: int) -> Any:
    return func.toStartOfInterval(e.at, interval(v, unit))


TIMES = [
    *(
        each(
            functools.partial(_rounded, unit),
            f"toStartOfInterval(at, INTERVAL {{v}} {unit.upper()})", 2, 7, same=unit not in ("second", "minute"),
        )
        for unit in ("millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")
    ),
    each(lambda e, v: e.at + interval(v, "hours"), "at + INTERVAL {v} HOUR", 1, 2),
    each(lambda e, v: e.at - interval(e.id * v, "days"), "at - INTERVAL (id * {v}) DAY", 1, 2),
]  # fmt: skip

WINDOWS = [
    each(
        lambda e, v: func.sum(e.amount).over(partition_by=e.user, order_by=e.id, rows=(-v, 0)),
        "sum(amount) OVER (PARTITION BY user ORDER BY id ROWS BETWEEN {v} PRECEDING AND CURRENT ROW)",
        1, 2, in_key=True,
    ),
    each(
        lambda e, v: func.count().over(order_by=e.id, range_=(-v, v)),
        "count(*) OVER (ORDER BY id RANGE BETWEEN {v} PRECEDING AND {v} FOLLOWING)", 1, 2, in_key=True,
    ),
    each(
        lambda e, v: func.lagInFrame(e.amount, v, 0).over(partition_by=e.user, order_by=e.id),
        "lagInFrame(amount, {v}, 0) OVER (PARTITION BY user ORDER BY id)", 1, 2,
    ),
    each(
        lambda e, v: func.leadInFrame(e.kind, v).over(order_by=e.id, rows=(None, None)),
        "leadInFrame(kind, {v}) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)", 1, 2,
    ),
    each(
        lambda e, v: func.quantileExact(v, e.amount).over(partition_by=e.user),
        "quantileExact({v})(amount) OVER (PARTITION BY user)", 0.5, 0.9,
    ),
    each(
        lambda e, v: func.exponentialTimeDecayedAvg(v, e.value, e.id).over(order_by=e.id),
        "exponentialTimeDecayedAvg({v})(value, id) OVER (ORDER BY id)", 5, 9,
    ),
    each(lambda e, v: func.ntile(v).over(order_by=e.id, rows=(None, None)),
         "ntile({v}) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)", 2, 3),
]  # fmt: skip


def merged(
    state: Callable[[Any, Any], Any], merge: Callable[[Any, Any], Any], made: str, plain: str, first: Any, second: Any
) -> Case:
    """A case that makes states for each user and kind, and merges them for each user."""

    def build(s: Any, v: Any) -> Any:
        kinds = select(s.e.user, s.e.kind, state(s.e, v).label("state")).final().group_by(s.e.user, s.e.kind).subquery()
        return select(kinds.c.user, merge(kinds.c, v)).group_by(kinds.c.user).order_by(kinds.c.user)

    return Case(
        plain.replace("{v}", "v"),
        build,
        f"SELECT user, {plain} FROM (SELECT user, kind, {made} AS state FROM {{db}}.events FINAL GROUP BY user, kind) "
        "GROUP BY user ORDER BY user",
        ((first, literal(first)), (second, literal(second))),
        f"{made} AS state",
    )


MERGES = [
    merged(lambda e, v: func.sumIfState(e.amount, e.id > v), lambda c, v: func.sumIfMerge(c.state),
           "sumIfState(amount, id > {v})", "sumIfMerge(state)", 10, 20),
    merged(lambda e, v: func.argMaxState(e.kind, e.id % v), lambda c, v: func.argMaxMerge(c.state),
           "argMaxState(kind, id % {v})", "argMaxMerge(state)", 7, 11),
    merged(lambda e, v: func.uniqExactState(e.id), lambda c, v: func.uniqExactMergeIf(c.state, c.kind != v),
           "uniqExactState(id)", "uniqExactMergeIf(state, kind != {v})", "buy", "none"),
    merged(lambda e, v: func.quantilesExactState(0.1, v, e.value),
           lambda c, v: func.quantilesExactMerge(0.1, v, c.state),
           "quantilesExactState(0.1, {v})(value)", "quantilesExactMerge(0.1, {v})(state)", 0.5, 0.9),
    merged(lambda e, v: func.groupArraySortedState(v, e.id), lambda c, v: func.groupArraySortedMerge(v, c.state),
           "groupArraySortedState({v})(id)", "groupArraySortedMerge({v})(state)", 2, 4),
]  # fmt: skip

CASES = [*AGGREGATES, *PARAMETRIC, *LAMBDAS, *TIMES, *WINDOWS, *MERGES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_function_answers_what_plain_sql_answers(engine: sa.Engine, made: SimpleNamespace, case: Case) -> None:
    check(engine, made, case)
