"""Line charts without a library: as an SVG document, and in the characters of a terminal."""

from __future__ import annotations

import datetime as dt
import html
import itertools
import math
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Point", "svg_line_chart", "terminal_chart"]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series.

    Attributes:
        time: when; a naive time means UTC.
        value: the value; None, or not a number, for a gap.
        low: least value of what ``value`` stands for, for the band.
        high: greatest value of it.
    """

    time: dt.datetime
    value: float | None
    low: float | None = None
    high: float | None = None


# -- scales ----------------------------------------------------------------------------------------------------------

_STEPS_OF_TIME: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200),
    *(86400, 2 * 86400, 7 * 86400, 14 * 86400, 28 * 86400, 91 * 86400, 182 * 86400, 364 * 86400, 1820 * 86400),
)
# A neighbour further away than this many usual distances is on the other side of a gap.
_GAP: Final = 3.5


def _seconds(time: dt.datetime) -> float:
    return (time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time).timestamp()


def _drawable(value: float | None) -> bool:
    # Differences of larger numbers overflow.
    return value is not None and abs(value) <= 1e300


@dataclass(frozen=True, slots=True)
class _Place:
    """A point with numbers only."""

    x: float
    y: float
    low: float
    high: float


def _runs(points: Sequence[Point]) -> list[list[_Place]]:
    """Cut the series at its gaps; each run is in order of time."""
    runs: list[list[_Place]] = [[]]
    ordered = sorted(points, key=lambda point: _seconds(point.time))
    times = [_seconds(point.time) for point in ordered]
    distances = [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]
    widest = statistics.median(distances) * _GAP if distances else math.inf
    for x, point in zip(times, ordered, strict=True):
        value = point.value
        if value is None or not _drawable(value):
            runs.append([])
            continue
        if runs[-1] and x - runs[-1][-1].x > widest:
            runs.append([])
        low = point.low if point.low is not None and _drawable(point.low) else value
        high = point.high if point.high is not None and _drawable(point.high) else value
        runs[-1].append(_Place(x, value, min(low, value), max(high, value)))
    return [run for run in runs if run]


def _nice_step(span: float, count: int) -> float:
    """Return 1, 2 or 5 times a power of ten that cuts ``span`` into about ``count`` pieces."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _value_ticks(low: float, high: float, count: int) -> list[float]:
    """Return ticks that reach from below ``low`` to above ``high``."""
    if not high - low > max(abs(low), abs(high), 1e-290) * 1e-12:
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    # A series near zero is shown with its zero.
    if 0 < low < 0.4 * high:
        low = 0.0
    step = _nice_step(high - low, count)
    first, last = math.floor(low / step * (1 + 1e-12)), math.ceil(high / step * (1 - 1e-12))
    return [number * step for number in range(first, last + 1)]


_PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def _labels(ticks: Sequence[float]) -> list[str]:
    """Write all ticks with one prefix and one number of decimals."""
    largest = max(map(abs, ticks))
    step = ticks[1] - ticks[0]
    if largest >= 1e15 or (largest < 1e-4 and largest > 0):
        return [f"{tick:.3g}" for tick in ticks]
    scale, prefix = next(((size, name) for size, name in _PREFIXES if largest >= 10 * size), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return [f"{tick / scale:.{decimals}f}{prefix if tick else ''}" for tick in ticks]


def _time_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Return times at round places between ``low`` and ``high``, with their labels in UTC."""
    step = next((step for step in _STEPS_OF_TIME if (high - low) / step <= count), _STEPS_OF_TIME[-1])
    ticks: list[tuple[float, str]] = []
    day: dt.date | None = None
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        time = dt.datetime.fromtimestamp(number * step, dt.UTC)
        if step >= 28 * 86400:
            label = f"{time:%b %Y}"
        elif step >= 86400:
            label = f"{time:%b} {time.day}"
        else:
            label = f"{time:%H:%M:%S}" if step < 60 else f"{time:%H:%M}"
            # Midnight is where the date belongs.
            if day is not None and time.date() != day:
                label = f"{time:%b} {time.day}"
        day = time.date()
        ticks.append((time.timestamp(), label))
    return ticks


def _written(time: float, *, seconds: bool) -> str:
    return f"{dt.datetime.fromtimestamp(time, dt.UTC):{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}}"


@dataclass(frozen=True, slots=True)
class _Frame:
    """What both kinds of chart need to know of the data."""

    runs: list[list[_Place]]
    ticks: list[float]
    start: float
    end: float

    @property
    def places(self) -> Iterator[_Place]:
        return itertools.chain.from_iterable(self.runs)

    @property
    def when(self) -> str:
        """The range of times, in words."""
        first, last = min(place.x for place in self.places), max(place.x for place in self.places)
        fine = last - first < 3600
        if first == last:
            return f"{_written(first, seconds=True)} UTC"
        return f"{_written(first, seconds=fine)} to {_written(last, seconds=fine)} UTC"


def _frame(points: Sequence[Point], ticks: int) -> _Frame | None:
    runs = _runs(points)
    if not runs:
        return None
    places = list(itertools.chain.from_iterable(runs))
    values = _value_ticks(min(place.low for place in places), max(place.high for place in places), ticks)
    start, end = min(place.x for place in places), max(place.x for place in places)
    if start == end:
        start, end = start - 1, end + 1
    return _Frame(runs, values, start, end)


# -- SVG -------------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 960, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 36, 76, 40

# Colours are written out: not every viewer of SVG knows CSS variables.
_STYLE: Final = """
.c{font:13px system-ui,"Segoe UI",Helvetica,Arial,sans-serif}.t{font-size:17px;font-weight:600}
.l{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}.g{stroke-width:1}.b{fill-opacity:.2}
.bg{fill:#ffffff}.t{fill:#1c1e21}.d{fill:#5f6670}.g{stroke:#e4e7eb}.b,.p{fill:#1f6feb}.l{stroke:#1f6feb}
@media (prefers-color-scheme:dark){
.bg{fill:#14171c}.t{fill:#e8eaed}.d{fill:#9aa3ae}.g{stroke:#2a3038}.b,.p{fill:#5aa2ff}.l{stroke:#5aa2ff}
}
"""

# XML 1.0 has no way to write these at all.
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(text: str) -> str:
    return html.escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def svg_line_chart(points: Sequence[Point], title: str, unit: str = "", *, note: str = "") -> str:
    """Return a line chart as a self-contained SVG document, for a light and a dark background.

    Args:
        points: the series; with ``low`` and ``high`` a band is drawn around the line. The line is broken where a
            value is missing, and where the next point is much further away than is usual in the series.
        title: stands above the chart.
        unit: of the values; stands below the title.
        note: stands beside the unit.
    """
    frame = _frame(points, 5)
    body = _drawing(frame) if frame else [f'<text class="d" x="{_WIDTH // 2}" y="{_HEIGHT // 2}">no data</text>']
    heading = " · ".join(part for part in (unit, note, frame.when if frame else "") if part)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" role="img" aria-label="{_text(f"{title}, {heading}")}" class="c">',
            f"<title>{_text(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="bg" width="{_WIDTH}" height="{_HEIGHT}"/>',
            f'<text class="t" x="24" y="30">{_text(title)}</text>',
            f'<text class="d" x="24" y="50">{_text(heading)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _drawing(frame: _Frame) -> list[str]:
    bottom, top = frame.ticks[0], frame.ticks[-1]

    def x_of(x: float) -> float:
        return _LEFT + (x - frame.start) / (frame.end - frame.start) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    out: list[str] = []
    for tick, label in zip(frame.ticks, _labels(frame.ticks), strict=True):
        y = y_of(tick)
        out.append(f'<path class="g" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        out.append(f'<text class="d" x="{_LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{label}</text>')
    for time, label in _time_ticks(frame.start, frame.end, 9):
        x, y = x_of(time), _HEIGHT - _BOTTOM
        out.append(f'<path class="g" d="M{x:.1f} {y}v6"/>')
        out.append(f'<text class="d" x="{x:.1f}" y="{y + 22}" text-anchor="middle">{label}</text>')
    for run in frame.runs:
        if any(place.low < place.high for place in run):
            around = [(place.x, place.high) for place in run] + [(place.x, place.low) for place in reversed(run)]
            out.append(f'<path class="b" d="M{"L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in around)}Z"/>')
    for run in frame.runs:
        if len(run) == 1:
            out.append(f'<circle class="p" cx="{x_of(run[0].x):.1f}" cy="{y_of(run[0].y):.1f}" r="3"/>')
        else:
            steps = "L".join(f"{x_of(place.x):.1f} {y_of(place.y):.1f}" for place in run)
            out.append(f'<path class="l" d="M{steps}"/>')
    return out


# -- terminal --------------------------------------------------------------------------------------------------------

# The dot in each place of a braille character, which is two dots wide and four high.
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class _Canvas:
    """Dots in braille characters."""

    def __init__(self, columns: int, rows: int) -> None:
        self.width, self.height = columns * 2, rows * 4
        self._cells = [[0x2800] * columns for _ in range(rows)]

    def dot(self, x: int, y: int) -> None:
        self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]

    def line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Set the dots from ``start`` to ``end``."""
        (x0, y0), (x1, y1) = start, end
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            self.dot(x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps))

    def rows(self) -> list[str]:
        # An empty braille character is drawn as eight faint circles by some fonts.
        return ["".join(map(chr, row)).replace(chr(0x2800), " ").rstrip() for row in self._cells]


def terminal_chart(points: Sequence[Point], width: int = 80, height: int = 12) -> str:
    """Return a line chart in braille characters, with its axes.

    Args:
        points: the series; bands are not drawn.
        width: characters in all, 30 at least.
        height: lines in all, 5 at least.
    """
    width, height = max(width, 30), max(height, 5)
    plain = [Point(point.time, point.value) for point in points]
    frame = _frame(plain, max(2, (height - 2) // 3))
    if frame is None:
        return "no data"
    labels = _labels(frame.ticks)
    margin = max(map(len, labels)) + 1
    canvas = _Canvas(width - margin - 1, height - 2)
    bottom, top = frame.ticks[0], frame.ticks[-1]

    def at(place: _Place) -> tuple[int, int]:
        x = (place.x - frame.start) / (frame.end - frame.start) * (canvas.width - 1)
        y = (top - place.y) / (top - bottom) * (canvas.height - 1)
        return round(x), round(y)

    for run in frame.runs:
        for earlier, later in itertools.pairwise(run) if len(run) > 1 else [(run[0], run[0])]:
            canvas.line(at(earlier), at(later))

    beside = {
        round((top - tick) / (top - bottom) * (height - 3)): label
        for tick, label in zip(frame.ticks, labels, strict=True)
    }
    lines = [
        f"{beside.get(number, ''):>{margin - 1}} {'┤' if number in beside else '│'}{row}"
        for number, row in enumerate(canvas.rows())
    ]
    ruler, times = ["─"] * (width - margin - 1), [" "] * width
    end_of_last = 0
    for time, label in _time_ticks(frame.start, frame.end, max(2, (width - margin) // 12)):
        column = round((time - frame.start) / (frame.end - frame.start) * (len(ruler) - 1))
        begin = min(max(margin + 1 + column - len(label) // 2, 0), width - len(label))
        if begin < end_of_last:
            continue
        ruler[column] = "┬"
        times[begin : begin + len(label)] = label
        end_of_last = begin + len(label) + 1
    return "\n".join([*lines, " " * margin + "└" + "".join(ruler), "".join(times).rstrip()])
