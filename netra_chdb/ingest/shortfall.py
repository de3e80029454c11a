"""Which of several amounts are missing from a sum: what a summary lacks, told by what each batch should have added."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import add, le, sub
from typing import Any, Final, TypeAlias

__all__ = ["Amounts", "choices"]

Amounts: TypeAlias = Mapping[Any, int]
"""Numbers by name, none of them negative; a name that is not there is 0."""

Row: TypeAlias = tuple[int, ...]

#: Where no choice adds up, there would be no end to the search: this is a second or two of it.
_STEPS: Final = 300_000


def choices(lacking: Amounts, parts: Sequence[Amounts]) -> Iterator[tuple[int, ...]]:
    """Yield choices of ``parts``, by their places, that add up to ``lacking``; parts of nothing are in none of them.

    Args:
        lacking: the sum of the choice.
        parts: what each part adds.
    """
    names: list[Hashable] = list(dict.fromkeys(name for amounts in (lacking, *parts) for name in amounts))
    rows: list[Row] = [tuple(part.get(name, 0) for name in names) for part in parts]
    nothing: Row = (0,) * len(names)
    # What all from a place on can add at most.
    rest = list(accumulate(reversed(rows), lambda sums, row: tuple(map(add, sums, row)), initial=nothing))[::-1]
    steps = 0

    def search(place: int, left: Row, chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        nonlocal steps
        steps += 1
        if left == nothing:
            yield chosen
        elif steps < _STEPS and all(map(le, left, rest[place])):
            row = rows[place]
            if row != nothing and all(map(le, row, left)):
                yield from search(place + 1, tuple(map(sub, left, row)), (*chosen, place))
            yield from search(place + 1, left, chosen)

    yield from search(0, tuple(lacking.get(name, 0) for name in names), ())
