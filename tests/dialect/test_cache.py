"""The statement cache: one compilation for a statement, and never another statement's answer."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine.interfaces import CacheStats

from netra_chdb.dialect import (
    AggregateFunction,
    Array,
    Enum8,
    Int64,
    MergeTree,
    SimpleAggregateFunction,
    String,
    Tuple,
    UInt64,
    select,
)
from netra_chdb.dialect.functions import ParametricFunction
from netra_chdb.dialect.type_parser import parse_type
from tests.dialect.type_table import CASES

NUMBER = sa.column("number", UInt64)
ROWS = sa.text("numbers(101)")
TABLE = sa.table("numbers_table", sa.column("n", Int64), sa.column("s", String))


def key(statement: Any) -> Any:
    found = statement._generate_cache_key()
    assert found is not None, "this statement is compiled anew each time"
    return found.key


def stats(engine: sa.Engine, *statements: Any) -> list[CacheStats]:
    with engine.connect() as connection:
        found = []
        for statement in statements:
            result = connection.execute(statement)
            found.append(result.context.cache_hit)
            result.close()
        return found


@pytest.mark.parametrize("make", [sa.select, select], ids=["stock select", "our select"])
def test_the_same_select_compiles_once(engine: sa.Engine, make: Any) -> None:
    engine.clear_compiled_cache()
    statements = [make(NUMBER + 1).select_from(ROWS).where(low < NUMBER) for low in (1, 2, 3)]
    assert stats(engine, *statements) == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT, CacheStats.CACHE_HIT]


def test_our_clauses_compile_once_and_keep_their_values(engine: sa.Engine) -> None:
    engine.clear_compiled_cache()

    def statement(limit: int, low: int) -> Any:
        return select(NUMBER).select_from(ROWS).where(low <= NUMBER).order_by(NUMBER).limit_by(limit, NUMBER % 2)

    hits = stats(engine, statement(1, 0), statement(2, 10), statement(3, 20))
    assert hits == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT, CacheStats.CACHE_HIT]
    with engine.connect() as connection:
        for limit, low in ((1, 0), (2, 10), (3, 20)):
            found = connection.execute(statement(limit, low)).scalars().all()
            assert found == list(range(low, low + 2 * limit))


def test_every_clause_is_part_of_the_key() -> None:
    base = select(TABLE.c.n)
    other = [
        base,
        base.final(),
        base.sample(0.5),
        base.prewhere(TABLE.c.n > 1),
        base.prewhere(TABLE.c.s == "x"),
        base.where(TABLE.c.n > 1),
        base.limit_by(1, TABLE.c.n),
        base.limit_by(1, TABLE.c.s),
        base.settings(max_threads=1),
        base.settings(max_block_size=1),
        base.settings(max_threads=1, max_block_size=1),
    ]
    keys = [key(statement) for statement in other]
    assert len(set(keys)) == len(keys)
    assert key(base.final()) == key(select(TABLE.c.n).final())
    assert key(base.prewhere(TABLE.c.n > 1)) == key(base.prewhere(TABLE.c.n > 2))
    assert key(base.settings(max_threads=1)) == key(base.settings(max_threads=2))


def families() -> list[tuple[str, int]]:
    return sorted(
        (name, function.argument_count)
        for name, function in vars_of("netra_chdb.dialect.functions")
        if issubclass(function, ParametricFunction) and function is not ParametricFunction
    )


def vars_of(module: str) -> list[tuple[str, Any]]:
    registry = sa.sql.functions._registry["_default"]
    return [(cls.__name__, cls) for cls in registry.values() if getattr(cls, "__module__", "") == module]


def test_there_are_parametric_functions_to_test() -> None:
    assert len(families()) >= 96
    assert ("quantilesExactIf", 2) in families()


LEVEL = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(families()), st.lists(LEVEL, min_size=2, max_size=4))
def test_parametric_functions_answer_for_the_level_that_was_asked(
    embedded: sa.Engine, function: tuple[str, int], levels: list[float]
) -> None:
    name, arguments = function
    if "Exclusive" in name:
        levels = [min(max(level, 0.1), 0.9) for level in levels]  # it has no minimum and no maximum
    call = getattr(sa.func, name)
    if "State" in name or "Merge" in name:
        keys = {key(sa.select(call(level, *[NUMBER] * arguments))) for level in levels}
        assert len(keys) == 1  # the level is a bound value: one compilation, its own parameter each time
        texts = [call(level, *[NUMBER] * arguments).compile(dialect=embedded.dialect) for level in levels]
        assert [next(iter(text.params.values())) for text in texts] == levels
        return
    many = name.startswith("quantiles")
    extra = [sa.true()] if arguments == 2 else []
    exact = "Exact" in name or name.startswith(("quantileTDigest", "quantilesTDigest", "quantileTiming"))
    with embedded.connect() as connection:
        for level in levels:
            found = connection.execute(sa.select(call(level, NUMBER, *extra)).select_from(ROWS)).scalar_one()
            fresh = connection.exec_driver_sql(
                f"SELECT {name}({level})(number{', true' if extra else ''}) FROM numbers(101)"
            ).scalar_one()
            assert found == fresh
            if not many and not exact:
                assert found == pytest.approx(level * 100, abs=1.5)
        if many:
            found = connection.execute(sa.select(call(*levels, NUMBER, *extra)).select_from(ROWS)).scalar_one()
            assert len(found) == len(levels)


def test_types_of_this_package_have_cache_keys() -> None:
    names = [case.type_name for case in CASES] + [
        "AggregateFunction(sum, Int64)",
        "AggregateFunction(sum, Float64)",
        "AggregateFunction(quantiles(0.5, 0.9), Float64)",
        "Tuple(a Int64, b String)",
        "Tuple(b Int64, a String)",
        "Tuple(Int64, Tuple(Int64, String))",
    ]
    keys: dict[Any, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in dict.fromkeys(names):
            statement = sa.select(sa.cast(NUMBER, parse_type(name)))
            found = key(statement)
            assert found not in keys, f"{name} has the key of {keys[found]}"
            keys[found] = name
            assert found == key(sa.select(sa.cast(NUMBER, parse_type(name))))


def test_types_that_contain_types_are_told_apart() -> None:
    different = [
        Tuple(Int64, String),
        Tuple(String, Int64),
        Tuple(Int64),
        AggregateFunction("sum", Int64),
        AggregateFunction("max", Int64),
        SimpleAggregateFunction("max", Int64),
    ]
    assert len({type_._static_cache_key for type_ in different}) == len(different)


def test_inserts_compile_once(engine: sa.Engine, database: str) -> None:
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("a", Int64, nullable=False), MergeTree(order_by="a"), schema=database
    )
    engine.clear_compiled_cache()
    with engine.connect() as connection:
        table.create(connection)
        hits = []
        for start in (0, 10, 20):
            result = connection.execute(table.insert(), [{"a": start}, {"a": start + 1}])
            hits.append(result.context.cache_hit)
        assert hits == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT, CacheStats.CACHE_HIT]
        found = connection.execute(sa.select(table.c.a).order_by(table.c.a)).scalars().all()
        assert found == [0, 1, 10, 11, 20, 21]


def test_a_cast_to_an_enumeration_is_to_its_own_members(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for members in (("a", "b"), ("b", "a"), ("a", "b")):
            for kind in (sa.Enum(*members), Enum8(*members), Array(sa.Enum(*members))):
                number: Any = sa.literal_column("[1]" if isinstance(kind, Array) else "toInt8(1)")
                found = connection.scalar(sa.select(sa.cast(number, kind)))
                assert found == ([members[0]] if isinstance(kind, Array) else members[0])
