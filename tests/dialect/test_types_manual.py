"""docs/types.md is made from the table that the contract tests run: it cannot say anything else.

Write it anew with ``python -m tests.dialect.test_types_manual``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.dialect.type_refusals import REFUSED
from tests.dialect.type_table import CASES

MANUAL = Path(__file__).parents[2] / "docs" / "types.md"

HEAD = """# Types

Every row of this table is run on each driver, embedded (`clickhouse+chdb`), HTTP (`clickhouse+chhttp`) and native
(`clickhouse+chnative`): bound into SQL, inserted as a block, selected, reflected, and made again from its reflection.
What goes in comes back equal; what a column cannot hold is refused before anything is sent.

| ClickHouse | Python in | Python out | notes |
|---|---|---|---|
"""

TAIL = """
## Rules for all of them

- `None` is accepted by `Nullable(...)` only; elsewhere it is refused, and never becomes 0, an empty string or 1970.
- A naive `datetime` means UTC, whatever the zone of the machine, the server or the column. What comes back is aware,
  in UTC, cut to the column's own precision.
- Numbers keep their kind: a `float` is refused by integers and Decimals, a `Decimal` by floats, a `str` by all.
- A `str` with lone surrogates is refused: bytes that are not UTF-8 are given, and come back, as `bytes`.
- In `LowCardinality(Float64)` the value -0.0 is refused: a dictionary does not keep the sign of a zero.
- `JSON` is no document: nulls, empty objects and dots in keys are refused, and dicts without a typed path. `JSONText`
  keeps any document. SQL text of your own is read by the server's rules: there a text may become a date.
- A value of a `Variant` goes into the member that gives it back as it is; one that none does is refused.
- A `Nested` is one column under `execution_options(settings={"flatten_nested": 0})`; else the server makes an array of
  each name, `n.x`, and these are what is inserted, selected and reflected.
- `AggregateFunction(func.quantiles(0.5, 0.9), Float64)`: parameters are expressions, or part of a text.
- `Point`, `Ring`, `LineString`, `Polygon`, `MultiLineString`, `MultiPolygon` are tuples of two floats, in lists.
- NumPy scalars are taken as the Python values that they stand for.
- An `enum.Enum` class is declared with `sqlalchemy.Enum(cls)`, `Enum8(cls)` or `Enum16(cls)`; an `IntEnum` or `StrEnum`
  that is bound without a type is its value.
- Python's `Mapped[...]` annotations become the type that loses nothing: `int` Int64, `float` Float64, `str` String,
  `bool` Bool, `bytes` String, `datetime` DateTime64(6, 'UTC'), `date` Date32, `Decimal` Decimal(38, 10), `UUID` UUID,
  an `enum.Enum` class Enum8, `Optional[...]` Nullable.

## Limits of the drivers

| | embedded | HTTP | native |
|---|---|---|---|
| `JSON` | name it: `text(...).columns(j=JSON)`, or a table's column | likewise | yes |
| a `FixedString`, `Enum`, `Decimal` beyond `max_types` of a `Dynamic` | refused | refused | read; an `Enum` refused |
| `Decimal` in `Dynamic` | refused | refused | refused |
| states (`AggregateFunction`) | read them with `-Merge` | read them with `-Merge` | read them with `-Merge` |
| `QBit`, `Geometry`, columns of intervals | not known: reflected as `NullType` | likewise | likewise |
| `Tuple()` without elements | yes | yes | refused (`NotSupportedError`) |
| nanoseconds in `DateTime64(7..9)` | Python keeps six digits | Python keeps six digits | Python keeps six digits |
"""


def manual() -> str:
    lines = [
        f"| `{case.type_name}` | {case.accepts} | {case.returns} | {case.notes} |".replace("|  |", "| |")
        for case in CASES
    ]
    refused = ["", "## Refused", "", "Tested values that are not taken:", "", "| ClickHouse | value |"]
    refused += ["|---|---|", *(f"| `{type_name}` | `{value!r}` |" for type_name, value in REFUSED)]
    return HEAD + "\n".join(lines) + "\n" + TAIL + "\n".join(refused) + "\n"


def test_the_manual_says_what_is_tested() -> None:
    assert MANUAL.read_text(encoding="utf-8") == manual()


def test_the_limits_are_these(engine: sa.Engine) -> None:
    def ask(sql: str) -> Any:
        with engine.connect() as connection:
            return connection.exec_driver_sql(sql).scalar_one()

    with pytest.raises(sa.exc.DBAPIError):
        ask("SELECT sumState(1)")
    assert ask("SELECT sumMerge(s) FROM (SELECT sumState(1) AS s)") == 1
    assert ask("SELECT toDateTime64('2024-01-01 00:00:00.123456789', 9, 'UTC')").microsecond == 123_456
    if engine.dialect.driver == "chnative":
        with pytest.raises(sa.exc.NotSupportedError):
            ask("SELECT tuple()")
    else:
        assert ask("SELECT tuple()") == ()


if __name__ == "__main__":
    MANUAL.parent.mkdir(exist_ok=True)
    MANUAL.write_text(manual(), encoding="utf-8")
