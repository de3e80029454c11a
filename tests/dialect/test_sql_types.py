"""What functions return is typed as the server types it, and values that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func

from netra_chdb.dialect import (
    AggregateFunction,
    Array,
    Date,
    DateTime64,
    Float64,
    Int8,
    Int32,
    Map,
    Nullable,
    String,
    UInt8,
    UInt64,
    element_of,
    interval,
    lambda_,
    parametric,
    select,
)
from netra_chdb.dialect.functions import ParametricFunction
from tests.dialect.sql_samples import samples


@pytest.fixture(scope="module")
def made_embedded(embedded: sa.Engine) -> Iterator[SimpleNamespace]:
    with embedded.connect() as connection:
        connection.execute(sa.schema.DropSchema("test_types_of_functions", if_exists=True))
        connection.execute(sa.schema.CreateSchema("test_types_of_functions"))
    yield samples(embedded, "test_types_of_functions")
    with embedded.connect() as connection:
        connection.execute(sa.schema.DropSchema("test_types_of_functions"))


TYPED: list[Callable[[Any], Any]] = [
    lambda e: func.sumIf(e.amount, e.id > 1),
    lambda e: func.sumIf(e.id, e.id > 1),
    lambda e: func.sumIf(e.maybe, e.id > 1),
    lambda e: func.sumOrNull(e.value),
    lambda e: func.sumArray(e.counts),
    lambda e: func.sumForEach(e.counts),
    lambda e: func.sumDistinct(e.amount),
    lambda e: func.sumIfOrNull(e.amount, e.id > 1),
    lambda e: func.sumOrDefault(e.amount),
    lambda e: func.avgIf(e.amount, e.id > 1),
    lambda e: func.avgIf(e.maybe, e.id > 1),
    lambda e: func.avgOrNull(e.amount),
    lambda e: func.countIf(e.id > 1),
    lambda e: func.minIf(e.at, e.id > 1),
    lambda e: func.maxOrNull(e.kind),
    lambda e: func.any(e.kind),
    lambda e: func.anyLast(e.maybe),
    lambda e: func.argMax(e.kind, e.id),
    lambda e: func.argMaxIf(e.at, e.id, e.id > 1),
    lambda e: func.argMin(e.maybe, e.id),
    lambda e: func.uniq(e.id, e.kind),
    lambda e: func.uniqExactIf(e.id, e.id > 1),
    lambda e: func.retention(e.id > 1, e.id > 2),
    lambda e: func.stddevPop(e.value),
    lambda e: func.groupBitOr(e.id),
    lambda e: func.quantile(0.5, e.amount),
    lambda e: func.quantile(0.5, e.at),
    lambda e: func.quantiles(0.5, 0.9, e.amount),
    lambda e: func.quantileExact(0.5, e.amount),
    lambda e: func.quantilesExactIf(0.5, e.amount, e.id > 1),
    lambda e: func.quantileExactOrNull(0.5, e.amount),
    lambda e: func.quantilesExactWeighted(0.5, 0.9, e.amount, e.id),
    lambda e: func.topK(3, e.kind),
    lambda e: func.topKWeighted(3, e.id, e.id),
    lambda e: func.groupArray(e.kind),
    lambda e: func.groupArray(3, e.maybe),
    lambda e: func.groupUniqArrayIf(3, e.id, e.id > 1),
    lambda e: func.groupArrayMovingSum(3, e.amount),
    lambda e: func.groupArrayMovingAvg(3, e.amount),
    lambda e: func.histogram(3, e.value),
    lambda e: func.windowFunnel(3, func.toDateTime(e.at), e.id > 1),
    lambda e: func.sequenceMatch("(?1)(?2)", func.toDateTime(e.at), e.id > 1, e.id > 2),
    lambda e: func.sequenceCount("(?1)(?2)", func.toDateTime(e.at), e.id > 1, e.id > 2),
    lambda e: func.uniqUpTo(3, e.id),
    lambda e: func.uniqCombined(15, e.id),
    lambda e: func.exponentialMovingAverage(3, e.value, e.id),
    lambda e: parametric("topK", 2)(e.kind),
    lambda e: func.arrayMap(lambda x: x, e.tags),
    lambda e: func.arrayMap(lambda x: e.at, e.tags),
    lambda e: func.arrayFilter(lambda x: x > 1, e.counts),
    lambda e: func.arrayExists(lambda x: x > 1, e.counts),
    lambda e: func.arrayCount(lambda x: x > 1, e.counts),
    lambda e: func.arrayFirst(lambda x: x > 1, e.counts),
    lambda e: func.arrayFirstOrNull(lambda x: x > 1, e.counts),
    lambda e: func.arrayFirstIndex(lambda x: x > 1, e.counts),
    lambda e: func.arraySplit(lambda x: x > 1, e.counts),
    lambda e: func.arraySum(e.counts),
    lambda e: func.arrayMax(e.counts),
    lambda e: func.arrayAvg(e.counts),
    lambda e: func.arrayCumSum(e.counts),
    lambda e: func.arraySort(lambda x: -x, e.counts),
    lambda e: func.mapFilter(lambda k, n: n > 1, e.attributes),
    lambda e: func.toStartOfInterval(e.at, interval(3, "minute")),
    lambda e: func.toStartOfInterval(e.at, interval(3, "day")),
    lambda e: func.toStartOfInterval(e.at, interval(3, "month")),
    lambda e: func.toStartOfInterval(e.at, interval(3, "millisecond")),
    lambda e: func.lagInFrame(e.kind, 1).over(order_by=e.id),
    lambda e: func.last_value(e.maybe).over(order_by=e.id),
]


@pytest.mark.parametrize("build", TYPED, ids=map(str, range(len(TYPED))))
def test_a_function_is_typed_as_the_server_types_it(
    embedded: sa.Engine, made_embedded: SimpleNamespace, build: Callable[[Any], Any]
) -> None:
    events = made_embedded.core[0]
    expression = build(events.c)
    with embedded.connect() as connection:
        named = connection.execute(select(func.toTypeName(expression)).select_from(events).limit(1)).scalar_one()
    assert embedded.dialect.type_compiler_instance.process(expression.type) == named


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("sumMerge", AggregateFunction("sum", Int32), "Int64"),
        ("argMaxMerge", AggregateFunction("argMax", String, UInt64), "String"),
        ("uniqMergeIf", AggregateFunction("uniq", String), "UInt64"),
        ("maxMerge", AggregateFunction("max", DateTime64(3)), "DateTime64(3, 'UTC')"),
        ("countIfMerge", AggregateFunction("countIf", UInt8), "UInt64"),
    ],
)
def test_a_merge_is_typed_by_the_state(embedded: sa.Engine, name: str, stored: Any, expected: str) -> None:
    state = sa.column("state", stored)
    call = getattr(func, name)(state, *([sa.true()] if name.endswith("If") else []))
    assert embedded.dialect.type_compiler_instance.process(call.type) == expected


def test_a_type_that_is_given_wins() -> None:
    assert isinstance(func.sumIf(sa.column("x", Int8), sa.true(), type_=Float64).type, Float64)
    assert isinstance(
        parametric("unheardOf", 1)(
            sa.column("x"),
        ).type,
        sa.types.NullType,
    )
    assert isinstance(parametric("unheardOf", 1, type_=Date())(sa.column("x")).type, Date)


def test_lambdas_give_their_arguments_types() -> None:
    seen: list[Any] = []

    def remember(*names: Any) -> None:
        seen.extend(type(name.type) for name in names)

    def pair(key: Any, number: Any) -> Any:
        remember(key, number)
        return number > 1

    func.mapFilter(pair, sa.column("m", Map(String, Int32)))
    func.arrayExists(pair, sa.column("a", Array(UInt8)), sa.column("b", Array(Nullable(Float64))))
    assert seen == [String, Int32, UInt8, Nullable]


def _two(*names: Any) -> Any:
    return names[0]


COLUMN: Any = sa.column("x", Array(Int32))
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: func.quantile(0.5), "takes 1 parameter"),
    (lambda: func.quantile(0.5, 0.9, COLUMN), "it was given 3"),
    (lambda: func.topK(COLUMN), "takes 1 to 3 parameter"),
    (lambda: func.histogram(), "it was given 0"),
    (lambda: func.windowFunnel(10), "it was given 1"),
    (lambda: func.windowFunnel(10, "loose", COLUMN, COLUMN), "strict_order"),
    (lambda: func.windowFunnel(10, "strict_order')(1", COLUMN, COLUMN), "strict_order"),
    (lambda: parametric("f(1); DROP", 1), "not the name of a function"),
    (lambda: parametric("f", 1)(), "takes parameters and arguments"),
    (lambda: lambda_(_two), "positional"),
    (lambda: lambda_(lambda x=1: x), "positional"),
    (lambda: lambda_(lambda: 1), "positional"),
    (lambda: lambda_(lambda x: x, Int8, Int8), "takes 1 argument"),
    (lambda: func.arrayMap(lambda x: x + sa.column("x"), COLUMN), "hides a column"),
    (lambda: func.arrayMap(lambda x: func.arrayMap(lambda x: x, COLUMN), COLUMN), "hides a column"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_what_cannot_be_is_refused_at_once(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(sa.exc.ArgumentError, match=message):
        build()


def test_calls_that_differ_have_keys_that_differ() -> None:
    number = sa.column("n", Int32)
    different = [
        func.uniqCombined(12, number),
        parametric("uniqCombined", 12, 13)(number),
        func.uniqCombined(number, 12),
        func.arrayMap(lambda x: x + 1, COLUMN),
        func.arrayMap(lambda y: y + 1, COLUMN),
        func.arrayMap(lambda x: x - 1, COLUMN),
        interval(1, "day"),
        interval(1, "hour"),
        element_of(COLUMN, "a"),
        element_of(COLUMN, "b"),
        element_of(number, "a"),
    ]
    keys = [sa.select(one)._generate_cache_key() for one in different]
    assert len({key.key for key in keys if key}) == len(different)
    closures = [sa.select(_times(factor))._generate_cache_key() for factor in (1, 2)]
    assert closures[0] == closures[1]


def parametric_functions() -> list[type[ParametricFunction]]:
    found = sa.sql.functions._registry["_default"].values()
    return [one for one in found if isinstance(one, type) and issubclass(one, ParametricFunction)]


def test_parameters_are_bound_values_of_each_parametric_function(embedded: sa.Engine) -> None:
    functions = parametric_functions()
    assert {"quantileIf", "topKMerge", "windowFunnel", "groupArrayState"} <= {one.name for one in functions}
    for function in functions:
        arguments = [sa.column("n", Int32)] * (function.argument_count or 2)
        calls = [function(parameter, *arguments) for parameter in (1, 2)]
        one, other = (sa.select(call)._generate_cache_key() for call in calls)
        assert one is not None
        assert one == other, function.name
        texts = [call.compile(dialect=embedded.dialect) for call in calls]
        assert [list(text.params.values()) for text in texts] == [[1], [2]]
        columns = ", ".join(["n"] * len(arguments))
        assert str(texts[0]).partition(")s)")[2] == f"({columns})", function.name


def _times(factor: int) -> Any:
    return func.arrayMap(lambda x: x * factor, COLUMN)


def test_a_time_plus_an_interval_keeps_its_type() -> None:
    at: Any = sa.column("at", DateTime64(3))
    assert (at + interval(1, "day")).type is at.type
