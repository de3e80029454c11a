"""Values: what text means is certain and kept, or it is refused."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest

from netra_chdb.dialect import types
from netra_chdb.ingest.convert import TimeReader, converter_for


def converted(type_: Any, value: Any, time_format: str | None = None) -> Any:
    """The value, or the reason why there is none."""
    try:
        return converter_for(type_, time_format)(value)
    except ValueError as error:
        return f"refused: {error}"


class TestValues:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("2014-02-14 14:30:00", 1392388200),
            ("2014-02-14T14:30:00.5Z", 1392388200.5),
            ("2014-02-14 14:30:00,250", 1392388200.25),
            ("2014-02-14 15:30:00+01:00", 1392388200),
            ("2014-02-14 15:30 +0100", 1392388200),
            ("2014-02-14 14:30:00 UTC", 1392388200),
            ("2014-02-14", 1392336000),
            (" Fri Feb 14 14:30:00 2014 ", 1392388200),
            ("Sun Dec  4 04:47:44 2005", 1133671664),
            ("1969-12-31 23:59:59.999", -0.001),
        ],
    )
    def test_times(self, text: str, seconds: float) -> None:
        reader = TimeReader(digits=3)
        assert reader(text).timestamp() == seconds
        assert reader(text).utcoffset() is not None
        assert reader.cut == 0

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("1392388200", "is a bare number, which may mean several times"),
            ("20140214", "is a bare number"),
            ("14.02.2014", "is a bare number"),
            ("02/03/2014", "must be a time such as"),
            ("2014-02-30 00:00:00", "must be a time that exists: day is out of range"),
            ("2014-02-14 24:30:00", "must be a time that exists"),
            ("Mon Feb 14 14:30:00 2014", "must be a time that exists: 2014-02-14 is a Fri"),
            ("2014-02-14x14:30", "must be a time such as"),
            ("\N{FULLWIDTH DIGIT TWO}014-02-14", "must be a time such as"),
            (1392388200, "is a bare number"),
            (True, "is a bare number"),
        ],
    )
    def test_what_is_no_time_or_several(self, text: Any, reason: str) -> None:
        assert converted(types.DateTime64(3), text).startswith(f"refused: {reason}")

    @pytest.mark.parametrize(
        ("format", "value", "expected"),
        [
            ("%d/%m/%Y %H:%M", "14/02/2014 14:30", 1392388200.0),
            ("%Y-%m-%d %H:%M:%S,%f %z", "2014-02-14 15:30:00,125 +0100", 1392388200.125),
            ("epoch-s", "1392388200", 1392388200.0),
            ("epoch-s", "1392388200.125", 1392388200.125),
            ("epoch-s", 1392388200.125, 1392388200.125),
            ("epoch-ms", "1392388200125", 1392388200.125),
            ("epoch-us", 1392388200125000, 1392388200.125),
            ("epoch-ns", "1392388200125000000", 1392388200.125),
            ("epoch-ms", "-1", -0.001),
        ],
    )
    def test_times_of_a_format(self, format: str, value: Any, expected: float) -> None:  # noqa: A002
        assert converted(types.DateTime64(3), value, format).timestamp() == expected

    @pytest.mark.parametrize(
        ("format", "value"),
        [("%d/%m/%Y", "2014-02-14"), ("epoch-s", "noon"), ("epoch-s", "9" * 20), ("epoch-s", "1e9"), ("epoch-s", True)],
    )
    def test_times_that_are_not_of_the_format(self, format: str, value: Any) -> None:  # noqa: A002
        assert str(converted(types.DateTime64(3), value, format)).startswith("refused: ")

    @pytest.mark.parametrize(
        ("text", "microsecond", "cut"),
        [("00.123", 123_000, 0), ("00.1239", 123_000, 1), ("00.123000000", 123_000, 0), ("00.1230000001", 123_000, 1)],
    )
    def test_finer_times_are_cut_and_counted(self, text: str, microsecond: int, cut: int) -> None:
        reader = TimeReader(digits=3)
        assert reader(f"2014-02-14 14:30:{text}").microsecond == microsecond
        assert reader.cut == cut

    @pytest.mark.parametrize(
        ("type_", "value", "expected"),
        [
            (types.Float64(), " -1.5e3 ", -1500.0),
            (types.Float64(), ".5", 0.5),
            (types.Float64(), 3, 3.0),
            (types.Float64(), decimal.Decimal("0.25"), 0.25),
            (types.UInt64(), "+42", 42),
            (types.UInt64(), "42.00", 42),
            (types.UInt64(), 42.0, 42),
            (types.UInt64(), "18446744073709551615", 2**64 - 1),
            (types.Boolean(), "TRUE", True),
            (types.Boolean(), "0", False),
            (types.LowCardinality(types.String()), " x ", " x "),
            (types.String(), 7, "7"),
            (types.JSONText(), '{"a": [1, null]}', {"a": [1, None]}),
            (types.Nullable(types.Float64()), "1", 1.0),
            (types.Date(), "2014-02-14", dt.date(2014, 2, 14)),
            (types.Array(types.String()), '["a"]', ["a"]),
            (types.Decimal(10, 2), "1.50", decimal.Decimal("1.50")),
        ],
    )
    def test_other_values(self, type_: Any, value: Any, expected: Any) -> None:
        found = converted(type_, value)
        assert found == expected
        assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("type_", "value"),
        [
            *((types.Float64(), text) for text in ("1,5", "1.234,5", "1_000", "0x10", "nan", "inf", "1e400", "1e-400")),
            *((types.Float64(), value) for value in ("9007199254740993", 2**53 + 1, float("nan"), True, 10**400)),
            (types.Float32(), "1e39"),
            *(
                (types.UInt64(), value)
                for value in ("1.5", "1e3", "\N{ARABIC-INDIC DIGIT ONE}", 1.5, True, "", 2.0**60)
            ),
            (types.Boolean(), "yes"),
            *((types.JSONText(), text) for text in ("{", '{"a":1,"a":2}', "NaN")),
            (types.Date(), "14.02.2014"),
            (types.Decimal(10, 2), "1,5"),
        ],
    )
    def test_what_would_change_is_refused(self, type_: Any, value: Any) -> None:
        assert str(converted(type_, value)).startswith("refused: ")
