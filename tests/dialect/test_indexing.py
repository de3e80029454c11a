"""``column[index]`` of an Array and a Map."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb.dialect import Array, Date, Int32, Map, Nullable, String, select


def column(value: Any, type_: Any) -> Any:
    return sa.cast(sa.literal(value, type_), type_)


def test_an_element_of_an_array(connection: sa.Connection) -> None:
    words, maybe = column(["a", "b", "c"], Array(String)), column([None, 2], Array(Nullable(Int32)))
    deep = column([[1, 2], [3]], Array(Array(Int32)))
    third = sa.bindparam("i", type_=Int32())
    statement = sa.select(
        words[1], words[-1], words[9], words[third], maybe[1], maybe[2], maybe[3], deep[1][2], deep[2][1] + 1
    )
    assert list(connection.execute(statement, {"i": 3}).one()) == ["a", "c", "", "c", None, 2, None, 2, 4]
    assert isinstance(words[1].type, String)
    assert isinstance(deep[1].type, Array)
    assert connection.scalar(sa.select(sa.cast(words, sa.ARRAY(sa.String))[2])) == "b"


def test_a_value_of_a_map(connection: sa.Connection) -> None:
    counts = column({"a": 1, "it's": -2}, Map(String, Int32))
    days = column({dt.date(2024, 2, 29): ["x", "y"]}, Map(Date, Array(String)))
    statement = sa.select(counts["a"], counts["it's"], counts["none"], days[dt.date(2024, 2, 29)][2])
    assert list(connection.execute(statement).one()) == [1, -2, 0, "y"]
    assert connection.scalar(sa.select(sa.func.count()).where(counts["it's"] < 0)) == 1


def test_a_slice_is_refused(embedded: sa.Engine) -> None:
    with pytest.raises(sa.exc.ArgumentError, match="arraySlice"):
        sa.column("a", Array(String))[1:2]
    with pytest.raises(sa.exc.CompileError, match="arraySlice"):
        select(sa.column("a", sa.ARRAY(sa.String))[1:2]).compile(dialect=embedded.dialect)
