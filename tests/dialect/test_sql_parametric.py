"""Every aggregate of this package, with every ending: as plain SQL answers, for each parameter, compiled once."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func
from sqlalchemy.engine.interfaces import CacheStats

from netra_chdb.dialect import Array, DateTime, Float64, Int64, String, UInt8, UInt64
from netra_chdb.dialect.aggregates import TypedAggregate
from netra_chdb.dialect.combinators import COMBINATORS
from netra_chdb.dialect.functions import ParametricFunction
from netra_chdb.dialect.literals import literal

#: Each column of the rows, and an array of it under its name with an s.
COLUMNS: dict[str, tuple[Any, str, str]] = {
    "n": (Int64, "toInt64(number % 23)", "[n, n + 5]"),
    "w": (UInt64, "toUInt64(number % 5 + 1)", "[w, w + 1]"),
    "x": (Float64, "number / 3", "[x, x + 1]"),
    "k": (String, "toString(number % 7)", "[k, 'a']"),
    "t": (DateTime("UTC"), "toDateTime(1700000000 + number * 60, 'UTC')", "[t, t + 60]"),
    "c": (UInt8, "number % 3 = 0", "[c, 1]"),
    "d": (UInt8, "number % 4 = 1", "[d, 0]"),
}
_ROWS = "SELECT " + ", ".join(f"{sql} AS {name}, {more} AS {name}s" for name, (_, sql, more) in COLUMNS.items())
ROWS = sa.text(f"({_ROWS} FROM numbers(60))")

#: Function: its arguments, and two lists of parameters that give two answers.
PARAMETRIC: dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]] = {
    "topK": ("k", (2,), (3,)),
    "topKWeighted": ("k w", (2,), (3,)),
    "groupArray": ("n", (2,), (3,)),
    "groupArrayLast": ("n", (2,), (3,)),
    "groupArraySample": ("n", (2, 7), (3, 7)),
    "groupArraySorted": ("n", (2,), (3,)),
    "groupUniqArray": ("n", (2,), (3,)),
    "groupArrayMovingSum": ("n", (2,), (3,)),
    "groupArrayMovingAvg": ("n", (2,), (3,)),
    "histogram": ("x", (2,), (3,)),
    "exponentialMovingAverage": ("x n", (2,), (3,)),
    "sequenceMatch": ("t c d", ("(?1)(?2)",), ("(?2)(?2)",)),
    "sequenceCount": ("t c d", ("(?1)(?2)",), ("(?2)(?2)",)),
    "windowFunnel": ("t c d", (1, "strict_increase"), (600, "strict_increase")),
    "uniqUpTo": ("n", (2,), (3,)),
    "uniqCombined": ("n", (12,), (17,)),
    "quantileExactWeighted": ("n w", (0.25,), (0.75,)),
    "quantileTDigestWeighted": ("n w", (0.25,), (0.75,)),
    "quantilesExactWeighted": ("n w", (0.25, 0.5), (0.75, 0.5)),
    "quantilesTDigestWeighted": ("n w", (0.25, 0.5), (0.75, 0.5)),
}
ARGUMENTS = {"argMin": "k n", "argMax": "k n", "avgWeighted": "n w", "deltaSumTimestamp": "n t", "retention": "c d"}
#: Window functions, tested as such, and one that is a window function to the server.
ELSEWHERE = {"lagInFrame", "leadInFrame", "first_value", "last_value", "nth_value", "exponentialTimeDecayedAvg"}
#: Both parameters answer alike: they say how exactly to count.
ALIKE = {"uniqCombined", "sequenceMatch"}


def base_of(name: str) -> tuple[str, str]:
    """The name without its ending, and the ending."""
    for ending in sorted(COMBINATORS, key=len, reverse=True):
        base = name.removesuffix(ending)
        if name.endswith(ending) and (base in BASES or re.fullmatch(r"quantiles?[A-Za-z]*", base)):
            return base, ending
    raise AssertionError(name)


def _registered(cls: type) -> list[Any]:
    found = sa.sql.functions._registry["_default"].values()
    return [one for one in found if isinstance(one, type) and issubclass(one, cls) and hasattr(one, "name")]


_ALL = [*_registered(ParametricFunction), *_registered(TypedAggregate)]
BASES = {one.name for one in _ALL if not one.combinators} | {"sum", "avg", "min", "max", "count"}
NAMES = sorted(one.name for one in _ALL if one.name not in ELSEWHERE and not one.name.startswith("exponentialTime"))


def parameters_of(base: str) -> tuple[str, tuple[Any, ...], tuple[Any, ...]]:
    if base in PARAMETRIC:
        return PARAMETRIC[base]
    if base.startswith("quantiles"):
        return "n", (0.25, 0.5), (0.75, 0.5)
    return ("n", (0.25,), (0.75,)) if base.startswith("quantile") else (ARGUMENTS.get(base, "n"), (), ())


def column(name: str, *, array: bool) -> Any:
    type_ = COLUMNS[name][0]
    return sa.column(f"{name}s", Array(type_)) if array else sa.column(name, type_)


def build(name: str, parameters: tuple[Any, ...], remainder: int | None) -> tuple[Any, str]:
    """The call of a function, and its plain SQL; ``remainder`` is bound into a first argument that is a number."""
    base, ending = base_of(name)
    combinators = COMBINATORS[ending]
    arguments = parameters_of(base)[0].split()
    array = bool({"Array", "ForEach"} & set(combinators))
    spelt = f"({', '.join(map(literal, parameters))})" if parameters else ""
    columns: list[Any] = [column(one, array=array) for one in arguments]
    texts = [str(one) for one in columns]
    if remainder is not None and arguments[0] == "n" and not (array and len(arguments) > 1):
        columns[0] = (
            func.arraySlice(columns[0], 1, remainder - 4, type_=columns[0].type) if array else columns[0] % remainder
        )
        texts[0] = f"arraySlice(ns, 1, {remainder - 4})" if array else f"n % {remainder}"
    condition: Any = sa.column("c", UInt8)
    source: Any = ROWS
    plain_source = str(ROWS)
    if "Merge" in combinators:
        inner = "".join(combinators[: combinators.index("Merge")])
        extra = [condition] if inner else []
        state = getattr(func, f"{base}{inner}State")(*parameters, *columns, *extra)
        made = sa.select(condition, state.label("s")).select_from(ROWS).group_by(condition).subquery()
        condition, source, columns = made.c.c, made, [made.c.s]
        called = ", ".join([*texts, *(["c"] if inner else [])])
        plain_source = f"(SELECT c, {base}{inner}State{spelt}({called}) AS s FROM {ROWS} GROUP BY c)"
        texts, outer = ["s"], combinators[combinators.index("Merge") :]
    else:
        outer = combinators
    if "If" in outer:
        columns, texts = [*columns, condition], [*texts, "c"]
    call = getattr(func, name)(*parameters, *columns)
    plain = f"{name}{spelt}({', '.join(texts)})"
    if "State" in outer:
        call, plain = func.finalizeAggregation(call), f"finalizeAggregation({plain})"
    return sa.select(call).select_from(source), f"SELECT {plain} FROM {plain_source}"


def check(engine: sa.Engine, name: str) -> bool:
    """Check one function; whether the server has it at all."""
    base, _ = base_of(name)
    _, first, second = parameters_of(base)
    calls = [build(name, *one) for one in ([(first, None), (second, None)] if first else [((), 5), ((), 6)])]
    engine.clear_compiled_cache()
    answers, hits = [], []
    with engine.connect() as connection:
        connection = connection.execution_options(settings={"max_threads": 1})
        for statement, plain in (*calls, calls[0]):
            try:
                wanted = connection.exec_driver_sql(plain.replace("%", "%%") if "%(" in plain else plain).scalar_one()
            except sa.exc.DBAPIError:
                return False
            result = connection.execute(statement)
            hits.append(result.context.cache_hit)
            answers.append(result.scalar_one())
            assert repr(answers[-1]) == repr(wanted), plain
    assert hits == [CacheStats.CACHE_MISS, CacheStats.CACHE_HIT, CacheStats.CACHE_HIT], name
    if name == base and first and base not in ALIKE:
        assert answers[0] != answers[1], name
    return True


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES))
def test_an_aggregate_answers_for_the_parameters_that_were_asked(engine: sa.Engine, name: str) -> None:
    check(engine, name)


@pytest.mark.slow
def test_all_aggregates_answer_for_the_parameters_that_were_asked(engine: sa.Engine) -> None:
    there = {name for name in NAMES if check(engine, name)}
    # What the server refuses in plain SQL cannot be right or wrong.
    assert len(there) > 0.9 * len(NAMES), sorted(set(NAMES) - there)


def test_each_parametric_function_is_tested() -> None:
    bases = {base_of(name)[0] for name in NAMES}
    assert bases >= {"quantile", "quantilesTiming", "topK", "windowFunnel", "sumKahan", "sum", "argMax"}
    unknown = {
        one.name
        for one in _registered(ParametricFunction)
        if not one.combinators and one.name not in PARAMETRIC and not one.name.startswith("quantile")
    }
    assert unknown <= ELSEWHERE
