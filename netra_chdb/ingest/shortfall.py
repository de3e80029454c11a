"""Which of several amounts are missing from a sum: what a summary lacks, told by what each batch should have added."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from operator import add, le, sub
from typing import Any, Final, TypeAlias

__all__ = ["Amounts", "choices"]

Amounts: TypeAlias = Mapping[Any, int]
"""Numbers by name, none of them negative; a name that is not there is 0."""

Row: TypeAlias = tuple[int, ...]
Places: TypeAlias = tuple[int, ...]

#: Where no choice adds up, there would be no end to the search: this is some seconds of it.
_STEPS: Final = 1_000_000


def choices(lacking: Amounts, parts: Sequence[Amounts]) -> Iterator[Places]:
    """Yield choices of ``parts``, by their places, that add up to ``lacking``; parts of nothing are in none of them.

    Few are missing, or few are not: choices of the fewest come first.

    Args:
        lacking: the sum of the choice.
        parts: what each part adds.
    """
    names: list[Hashable] = list(dict.fromkeys(name for amounts in (lacking, *parts) for name in amounts))
    wanted: Row = tuple(lacking.get(name, 0) for name in names)
    rows = {place: tuple(part.get(name, 0) for name in names) for place, part in enumerate(parts)}
    rows = {place: row for place, row in rows.items() if any(row) and all(map(le, row, wanted))}
    total: Row = tuple(map(sum, zip(*rows.values(), strict=True))) if rows else (0,) * len(names)
    search = _Search(list(rows), list(rows.values()))
    for size in range(len(rows) // 2 + 1):
        yield from search.of(size, wanted)
        if 2 * size != len(rows):
            for others in search.of(size, tuple(map(sub, total, wanted))):
                yield tuple(place for place in rows if place not in others)


class _Search:
    """Choices of so many rows that have a sum: each is two halves, and for the one the other is looked up.

    Args:
        places: what the rows are called, in order.
        rows: the rows.
    """

    def __init__(self, places: Sequence[int], rows: Sequence[Row]) -> None:
        self._places, self._rows = places, rows
        self._steps = 0

    def of(self, size: int, wanted: Row) -> Iterator[Places]:
        """Yield the choices of ``size`` rows whose sum is ``wanted``; none once too much was tried."""
        for place, number in enumerate(wanted):
            ordered = sorted(row[place] for row in self._rows)
            if not sum(ordered[:size]) <= number <= sum(ordered[len(ordered) - size :]):
                return
        nothing: Row = (0,) * len(wanted)
        halves: defaultdict[Row, list[Places]] = defaultdict(list)
        for first, added in self._choose(size // 2, 0, (), nothing, wanted):
            halves[added].append(first)
        for second, added in self._choose(size - size // 2, 0, (), nothing, wanted):
            for first in halves.get(tuple(map(sub, wanted, added)), ()):
                if not first or not second or first[-1] < second[0]:
                    yield tuple(self._places[number] for number in first + second)

    def _choose(self, size: int, start: int, chosen: Places, added: Row, most: Row) -> Iterator[tuple[Places, Row]]:
        if not size:
            yield chosen, added
            return
        for number in range(start, len(self._rows) - size + 1):
            self._steps += 1
            if self._steps > _STEPS:
                return
            more = tuple(map(add, added, self._rows[number]))
            if all(map(le, more, most)):
                yield from self._choose(size - 1, number + 1, (*chosen, number), more, most)
