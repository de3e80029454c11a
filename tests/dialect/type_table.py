"""Every ClickHouse type, the Python values it takes and what comes back: the contract's table and the manual's."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import math
import struct
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.dialect.type_values import ANYTHING, INTEGERS, MOMENTS, TEXT, documents, spans

#: SETTINGS under which a server takes each type of the table as it is named.
CREATION = {"allow_suspicious_low_cardinality_types": 1, "flatten_nested": 0}
#: The same for 18.16.
CREATION_OLD = {"allow_experimental_low_cardinality_type": 1}
D = decimal.Decimal
FIRST = dt.datetime(1900, 1, 1)
LAST = dt.datetime(2299, 12, 31, 23, 59, 59, 999_999)
UTC = st.just(dt.UTC)

AWKWARD = st.sampled_from(
    [
        "",
        "'",
        '"',
        "`",
        "\\",
        "\\'",
        "100%",
        "%s",
        "%(x)s",
        "%%",
        ":x",
        "{a:b}",
        ";",
        "-- x",
        "/*",
        "$$",
        "é",
        "🦆",
        "NULL",
        "\\N",
        "﷽",
        "deadbeef",
        "\0",
        "a\0b",
        "\n",
        "\n\nSELECT 1",
        "\t",
        "\u2028",
    ]
)


@dataclass(frozen=True)
class Case:
    """One type of the table.

    Attributes:
        type_name: as the server prints it.
        values: what is inserted and has to come back equal.
        accepts: Python in.
        returns: Python out.
        notes: limits.
        comparable: whether ``column = value`` finds a row again.
        bound: whether a value bound into SQL comes back from there, too.
        ordered: whether a dict keeps the order of its keys.
    """

    type_name: str
    values: st.SearchStrategy[Any]
    accepts: str
    returns: str
    notes: str = ""
    comparable: bool = True
    bound: bool = False
    ordered: bool = True


def _integers(signed: bool, bits: int) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high])


def _decimals(precision: int, scale: int) -> st.SearchStrategy[D]:
    high = 10**precision - 1
    with decimal.localcontext(prec=80):
        return (st.integers(-high, high) | st.sampled_from([high, -high, 0])).map(lambda n: _scaled(n, scale))


def _scaled(number: int, scale: int) -> D:
    with decimal.localcontext(prec=80):
        return D(number).scaleb(-scale)


def _times(precision: int, first: dt.datetime = FIRST, last: dt.datetime = LAST) -> st.SearchStrategy[dt.datetime]:
    step = 10 ** max(0, 6 - precision)

    def cut(value: dt.datetime) -> dt.datetime:
        return value.replace(microsecond=value.microsecond // step * step)

    edges = st.sampled_from([first.replace(tzinfo=dt.UTC), last.replace(tzinfo=dt.UTC)])
    return (st.datetimes(first, last, timezones=UTC) | edges).map(cut)


def _float32(value: float) -> float:
    found: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return found


STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | AWKWARD
BYTES = st.binary(max_size=8)
FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.1, 5e-324, 1.7976931348623157e308])
HALVES = st.integers(-255, 255).map(lambda number: number / 8) | st.sampled_from([math.inf, -math.inf, math.nan, -0.0])
POINT = st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False))
ADDRESSES = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
NANOSECONDS_END = dt.datetime(2262, 4, 11, 23, 47, 16)


def _cases() -> list[Case]:
    cases = [
        Case(f"{'' if signed else 'U'}Int{bits}", _integers(signed, bits), "int", "int", "out of range is refused")
        for signed in (True, False)
        for bits in (8, 16, 32, 64, 128, 256)
    ]
    cases += [
        Case("Float32", st.floats(width=32), "float, int", "float", "rounded to 24 bits", comparable=False),
        Case("BFloat16", HALVES, "float, int", "float", "cut to 8 bits", comparable=False),
        Case("Float64", FLOATS, "float, int", "float", "an int that no float equals is refused", comparable=False),
    ]
    for precision, scale in ((9, 0), (9, 4), (18, 18), (18, 6), (38, 10), (76, 38)):
        notes = "digits beyond the scale are refused, floats too"
        cases.append(
            Case(f"Decimal({precision}, {scale})", _decimals(precision, scale), "Decimal, int", "Decimal", notes)
        )
    cases += [
        Case("Bool", st.booleans(), "bool", "bool"),
        Case("String", STRINGS | BYTES, "str, bytes", "str; bytes where they are not UTF-8"),
        Case("FixedString(5)", st.binary(min_size=5, max_size=5), "bytes, str", "bytes", "padded with zero bytes"),
        Case("UUID", st.uuids(), "uuid.UUID, str", "uuid.UUID"),
        Case("Date", st.dates(dt.date(1970, 1, 1), dt.date(2149, 6, 6)), "date", "date", "1970-01-01 to 2149-06-06"),
        Case("Date32", st.dates(FIRST.date(), LAST.date()), "date", "date", "1900-01-01 to 2299-12-31"),
    ]
    seconds = _times(0, dt.datetime(1970, 1, 1), dt.datetime(2106, 2, 7, 6, 28, 15))
    for zone in ("", "('UTC')", "('America/New_York')"):
        cases.append(
            Case(f"DateTime{zone}", seconds, "datetime", "datetime, UTC", "1970 to 2106-02-07; cut to the second")
        )
    for precision in range(10):
        last = NANOSECONDS_END if precision == 9 else LAST
        notes = f"1900 to {last.year}; cut to its precision" + ("; Python keeps six digits" if precision > 6 else "")
        cases.append(
            Case(f"DateTime64({precision}, 'UTC')", _times(precision, last=last), "datetime", "datetime, UTC", notes)
        )
    for zone in ("America/New_York", "Asia/Kolkata", "Pacific/Apia"):
        cases.append(Case(f"DateTime64(6, '{zone}')", _times(6), "datetime", "datetime, UTC", "naive means UTC"))
    names = st.sampled_from(["a", "it's", "é", ""])
    cases += [
        Case(
            "Enum8('é' = -128, '' = 0, 'a' = 1, 'it\\'s' = 2)", names, "str, enum.Enum", "str, enum.Enum", "by its name"
        ),
        Case(
            "Enum16('it\\'s' = -32768, '' = 0, 'é' = 3, 'a' = 1000)",
            names,
            "str, enum.Enum",
            "str, enum.Enum",
            "by its name",
        ),
        Case("IPv4", st.ip_addresses(v=4), "IPv4Address, str", "IPv4Address"),
        Case("IPv6", ADDRESSES, "IPv6Address, str", "IPv6Address"),
    ]
    for inner in list(cases):
        if inner.type_name in ("Int64", "Float64", "String", "UUID", "DateTime64(6, 'UTC')", "Decimal(38, 10)", "Bool"):
            cases += [
                Case(f"Array({inner.type_name})", st.lists(inner.values, max_size=4), "list", "list", comparable=False),
                Case(
                    f"Nullable({inner.type_name})",
                    st.none() | inner.values,
                    f"{inner.accepts}, None",
                    f"{inner.returns}, None",
                    comparable=inner.comparable,
                ),
            ]
    more: list[tuple[str, st.SearchStrategy[Any], str, str]] = [
        ("Nullable(Enum8('a' = 1, 'b' = 2))", st.none() | st.sampled_from("ab"), "str, None", ""),
        ("Nullable(FixedString(2))", st.none() | st.binary(min_size=2, max_size=2), "bytes, None", ""),
        ("Nullable(Date32)", st.none() | st.dates(FIRST.date(), LAST.date()), "date, None", ""),
        ("Nullable(IPv4)", st.none() | st.ip_addresses(v=4), "IPv4Address, None", ""),
        ("LowCardinality(String)", STRINGS | BYTES, "str, bytes", ""),
        ("LowCardinality(Nullable(String))", st.none() | STRINGS | BYTES, "str, bytes, None", ""),
        ("LowCardinality(FixedString(3))", st.binary(min_size=3, max_size=3), "bytes", ""),
        ("Array(Array(String))", st.lists(st.lists(STRINGS, max_size=3), max_size=3), "list", ""),
        ("Array(Nullable(Int64))", st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4), "list", ""),
        ("Array(LowCardinality(String))", st.lists(STRINGS, max_size=4), "list", ""),
        ("Map(String, Int64)", st.dictionaries(STRINGS, st.integers(-(2**63), 2**63 - 1), max_size=3), "dict", ""),
        (
            "Map(LowCardinality(String), Array(Nullable(Float64)))",
            st.dictionaries(STRINGS, st.lists(st.none() | FLOATS, max_size=3), max_size=3),
            "dict",
            "",
        ),
        ("Tuple(Int64, String)", st.tuples(st.integers(-(2**63), 2**63 - 1), STRINGS), "tuple", ""),
        (
            "Tuple(a Int64, `b c` Nullable(String))",
            st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | STRINGS),
            "tuple, dict",
            "named elements come back as a plain tuple",
        ),
        ("Array(Tuple(Int64, String))", st.lists(st.tuples(st.integers(0, 9), STRINGS), max_size=3), "list", ""),
        ("Point", POINT, "tuple", ""),
        ("Ring", st.lists(POINT, max_size=3), "list", ""),
        ("LineString", st.lists(POINT, max_size=3), "list", ""),
        ("Polygon", st.lists(st.lists(POINT, max_size=3), max_size=2), "list", ""),
        ("MultiLineString", st.lists(st.lists(POINT, max_size=3), max_size=2), "list", ""),
        ("MultiPolygon", st.lists(st.lists(st.lists(POINT, max_size=2), max_size=2), max_size=2), "list", ""),
        ("SimpleAggregateFunction(max, Int64)", st.integers(-(2**63), 2**63 - 1), "int", ""),
    ]
    cases += [
        Case(name, values, accepts, accepts.replace(", dict", ""), notes, comparable=False)
        for name, values, accepts, notes in more
    ]
    return cases + _open_cases()


def _open_cases() -> list[Case]:
    span, cut = "timedelta, time", "below 1000 hours; cut to its precision, towards zero"
    cases = [Case("Time", spans(0), span, "timedelta", cut)]
    cases += [
        Case(f"Time64({precision})", spans(precision), span, "timedelta", cut + ("; Python keeps six digits" * more))
        for precision, more in ((0, 0), (3, 0), (6, 0), (9, 1))
    ]
    moment = st.integers(0, 10**12).map(lambda n: dt.datetime(2000, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=n))
    typed = st.fixed_dictionaries(
        {
            "n": st.none() | INTEGERS,
            "m": st.fixed_dictionaries({"at": moment}),
            "u": st.uuids(),
            "e": st.sampled_from(["x", "y"]),
            "d": st.lists(_decimals(20, 3), max_size=2),
        },
        optional={"other": TEXT},
    )
    paths = "d Array(Decimal(20, 3)), e Enum8('x' = 1, 'y' = 2), `m.at` DateTime64(3, 'UTC'), n Nullable(Int64), u UUID"
    any_type = "None, bool, int, float, str, UUID, date, datetime, timedelta, addresses; list, tuple, dict of one type"
    kept = "nulls, empty objects and dots in keys are refused; an int among floats of an array is a float"
    cases += [
        Case("JSON", documents(), "dict", "dict", kept, bound=True, ordered=False, comparable=False),
        Case(
            "JSON(max_dynamic_types=1, max_dynamic_paths=1)",
            documents(),
            "dict",
            "dict",
            kept,
            ordered=False,
            comparable=False,
        ),
        Case(
            f"JSON({paths}, SKIP `z.a`, SKIP REGEXP '^y')",
            typed,
            "dict",
            "dict",
            "a path with a type has to be there; what is skipped is not stored",
            bound=True,
            ordered=False,
            comparable=False,
        ),
        Case("Array(JSON)", st.lists(documents(), max_size=3), "list", "list", "", ordered=False, comparable=False),
        Case(
            "Variant(Bool, DateTime64(6, 'UTC'), Float64, Int64, String)",
            st.none() | st.booleans() | MOMENTS | FLOATS | INTEGERS | TEXT,
            "what one member takes, None",
            "the same",
            "typed_variant() names a member",
            bound=True,
            comparable=False,
        ),
        Case(
            "Array(Variant(Array(String), Decimal(18, 6), FixedString(3), UUID))",
            st.lists(
                st.lists(TEXT, max_size=2) | _decimals(18, 6) | st.binary(min_size=3, max_size=3) | st.uuids(),
                max_size=3,
            ),
            "list",
            "list",
            comparable=False,
        ),
        Case(
            "Dynamic",
            ANYTHING,
            any_type,
            "the same",
            "no Decimal; not inside of containers",
            bound=True,
            comparable=False,
        ),
        Case("Dynamic(max_types=2)", ANYTHING, any_type, "the same", comparable=False),
        Case(
            "Nested(x Int64, y Nested(a String, b DateTime))",
            st.lists(
                st.tuples(
                    INTEGERS, st.lists(st.tuples(TEXT, moment.map(lambda at: at.replace(microsecond=0))), max_size=2)
                ),
                max_size=3,
            ),
            "list of tuples or dicts",
            "list of tuples",
            "under flatten_nested=0; else it is an array for each name",
            comparable=False,
        ),
    ]
    return cases


CASES = _cases()


def expected(value: Any) -> Any:
    """What has to come back for ``value``: bytes that are UTF-8 are text in a String."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, list):
        return [expected(item) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Equality without mercy: NaN is NaN, -0.0 is not 0.0, and True is not 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, dt.datetime):
        return bool(left == right and left.utcoffset() == right.utcoffset())
    return bool(left == right)
