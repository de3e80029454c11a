"""Charts: what is drawn is inside the frame, whatever the numbers are, and can be read."""

from __future__ import annotations

import datetime as dt
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_chdb.chart import Point, svg_line_chart, terminal_chart

NOON = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
SVG = "{http://www.w3.org/2000/svg}"


def series(*values: float | None, step: float = 60.0) -> list[Point]:
    return [Point(NOON + dt.timedelta(seconds=step * number), value) for number, value in enumerate(values)]


def drawn(svg: str, kind: str) -> list[ET.Element]:
    """The elements of one CSS class."""
    return [item for item in ET.fromstring(svg).iter() if item.get("class") == kind]  # noqa: S314


def texts(svg: str) -> list[str]:
    return [item.text or "" for item in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def coordinates(path: ET.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d", ""))]


VALUES = st.one_of(st.none(), st.floats(), st.floats(-1e6, 1e6), st.integers(-5, 5).map(float))
POINTS = st.lists(
    st.builds(
        Point,
        st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2200, 1, 1)),
        VALUES,
        VALUES,
        VALUES,
    ),
    max_size=30,
)


class TestSvg:
    @given(POINTS)
    def test_any_series_stays_inside_the_frame(self, points: Sequence[Point]) -> None:
        svg = svg_line_chart(points, "any", "unit")
        assert not re.search(r"\b(nan|inf)\b", svg)
        for kind in ("l", "b"):
            for path in drawn(svg, kind):
                for x, y in coordinates(path):
                    assert 71.9 <= x <= 924.1
                    assert 75.9 <= y <= 320.1
        for circle in drawn(svg, "p"):
            assert 71.9 <= float(circle.get("cx", "nan")) <= 924.1
            assert 75.9 <= float(circle.get("cy", "nan")) <= 320.1

    def test_the_line_is_where_the_values_are(self) -> None:
        (line,) = drawn(svg_line_chart(series(0, 10, 5), "t"), "l")
        (x0, y0), (x1, y1), (x2, y2) = coordinates(line)
        assert (x0, x2) == (72, 924)
        assert x1 == pytest.approx((72 + 924) / 2)
        assert [y0, y1, y2] == pytest.approx([320, 76, 198])

    def test_ticks_are_round_numbers_and_times(self) -> None:
        found = texts(svg_line_chart(series(*(number / 7 for number in range(61))), "t", "ms"))
        assert [text for text in found if re.fullmatch(r"[\d.]+", text)] == ["0", "2", "4", "6", "8", "10"]
        assert [text for text in found if re.fullmatch(r"\d\d:\d\d", text)] == [
            *("12:00", "12:10", "12:20", "12:30", "12:40", "12:50", "13:00"),
        ]
        assert "ms · 2026-05-04 12:00 to 2026-05-04 13:00 UTC" in found

    @pytest.mark.parametrize(
        ("values", "labels"),
        [
            ((0, 2_500_000), ["0", "500k", "1000k", "1500k", "2000k", "2500k"]),
            ((0, 8e9), ["0", "2000M", "4000M", "6000M", "8000M"]),
            ((0.1, 0.14), ["0.10", "0.11", "0.12", "0.13", "0.14"]),
            ((-3, 3), ["-4", "-2", "0", "2", "4"]),
            ((7, 7), ["6.0", "6.5", "7.0", "7.5", "8.0"]),
        ],
    )
    def test_labels_of_values(self, values: tuple[float, ...], labels: list[str]) -> None:
        found = [text for text in texts(svg_line_chart(series(*values), "t")) if re.fullmatch(r"-?[\d.]+[kMGT]?", text)]
        assert found == labels

    def test_days_are_named_where_they_begin(self) -> None:
        found = texts(svg_line_chart(series(*range(49), step=3600), "t"))
        assert "May 5" in found
        assert "May 6" in found

    def test_one_point_is_a_dot(self) -> None:
        svg = svg_line_chart(series(3.5), "t")
        assert len(drawn(svg, "p")) == 1
        assert drawn(svg, "l") == []
        assert "2026-05-04 12:00:00 UTC" in texts(svg)

    def test_no_point_says_so(self) -> None:
        assert "no data" in texts(svg_line_chart([], "t"))
        assert "no data" in texts(svg_line_chart(series(None, math.nan), "t"))

    def test_missing_values_break_the_line(self) -> None:
        svg = svg_line_chart(series(1, 2, None, 3, 4, math.nan, 5), "t")
        assert [len(coordinates(path)) for path in drawn(svg, "l")] == [2, 2]
        assert len(drawn(svg, "p")) == 1

    def test_a_long_pause_breaks_the_line(self) -> None:
        points = series(1, 2, 3) + [Point(NOON + dt.timedelta(hours=1, minutes=m), 4.0) for m in range(3)]
        assert [len(coordinates(path)) for path in drawn(svg_line_chart(points, "t"), "l")] == [3, 3]

    def test_the_band_goes_from_least_to_greatest(self) -> None:
        points = [Point(NOON + dt.timedelta(minutes=m), 5.0, 0.0, 10.0) for m in range(3)]
        (band,) = drawn(svg_line_chart(points, "t"), "b")
        assert {y for _, y in coordinates(band)} == {76, 320}
        assert drawn(svg_line_chart(series(1, 2, 3), "t"), "b") == []

    def test_order_does_not_matter(self) -> None:
        points = series(1, 5, 2, 8)
        assert svg_line_chart(points[::-1], "t") == svg_line_chart(points, "t")

    def test_text_is_text(self) -> None:
        hostile = "</title><script>alert(1)</script>&\"'\x00\x1b\ud800"
        svg = svg_line_chart(series(1, 2), hostile, hostile, note=hostile)
        svg.encode()
        assert "<script" not in svg
        title = next(iter(ET.fromstring(svg).iter(f"{SVG}title")))  # noqa: S314
        assert title.text == "</title><script>alert(1)</script>&\"'" + "\N{REPLACEMENT CHARACTER}" * 3

    def test_it_is_self_contained_for_light_and_dark(self) -> None:
        svg = svg_line_chart(series(1, 2), "t")
        assert "prefers-color-scheme:dark" in svg
        assert re.findall(r"(?:href|src|url|@import)\b", svg) == []
        assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]

    def test_a_naive_time_means_utc(self) -> None:
        naive = [Point(point.time.replace(tzinfo=None), point.value) for point in series(1, 2, 3)]
        assert svg_line_chart(naive, "t") == svg_line_chart(series(1, 2, 3), "t")


class TestTerminal:
    @given(POINTS, st.integers(0, 200), st.integers(0, 40))
    def test_any_series_fits(self, points: Sequence[Point], width: int, height: int) -> None:
        lines = terminal_chart(points, width, height).split("\n")
        if lines != ["no data"]:
            assert len(lines) == max(height, 5)
            assert max(map(len, lines)) <= max(width, 30)

    def test_the_dots_are_where_the_values_are(self) -> None:
        lines = terminal_chart(series(0, 10), 40, 8).split("\n")
        rows = [line.partition("┤")[2] or line.partition("│")[2] for line in lines[:-2]]
        # From the lower left corner to the upper right one.
        assert rows[0].strip()
        assert rows[0].startswith(" ")
        assert not rows[-1].startswith(" ")
        assert len(rows[0]) > len(rows[-1])
        first = [len(row) - len(row.lstrip()) for row in rows]
        assert first == sorted(first, reverse=True)

    def test_axes_are_labelled(self) -> None:
        chart = terminal_chart(series(*range(61)), 80, 12)
        assert "12:00" in chart
        assert "13:00" in chart
        assert re.search(r"^ *60 ┤", chart, re.MULTILINE)
        assert re.search(r"^ *0 ┤", chart, re.MULTILINE)

    def test_one_point_and_none(self) -> None:
        assert len(re.findall("[\u2801-\u28ff]", terminal_chart(series(1.0)))) == 1
        assert terminal_chart([]) == "no data"
