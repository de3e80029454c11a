"""Which parts are missing from a sum, against every choice tried out."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain, combinations, islice

from hypothesis import given
from hypothesis import strategies as st

from netra_chdb.ingest.shortfall import choices

amounts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 4), max_size=3)


def added(parts: list[dict[str, int]], choice: tuple[int, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for place in choice:
        found += Counter(parts[place])
    return found


@given(st.lists(amounts, max_size=6), amounts)
def test_every_choice_that_adds_up_is_found(parts: list[dict[str, int]], lacking: dict[str, int]) -> None:
    some = [place for place, part in enumerate(parts) if any(part.values())]
    every = chain.from_iterable(combinations(some, size) for size in range(len(some) + 1))
    expected = {choice for choice in every if added(parts, choice) == Counter(lacking)}
    found = list(choices(lacking, parts))
    assert set(found) == expected
    assert len(found) == len(expected)


@given(st.lists(amounts, min_size=1, max_size=60), st.data())
def test_among_many_the_choice_is_found(parts: list[dict[str, int]], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, len(parts) - 1), max_size=4))
    lacking = added(parts, tuple(chosen))
    for choice in islice(choices(lacking, parts), 5):
        assert added(parts, choice) == lacking


def test_what_does_not_add_up_comes_to_an_end() -> None:
    start = time.perf_counter()
    assert list(choices({"a": 101}, [{"a": 2 * n} for n in range(1, 60)])) == []
    assert time.perf_counter() - start < 60


def test_three_of_many_that_are_much_alike_are_found() -> None:
    """What a long row of crashes leaves: more choices than can be tried one after the other."""
    parts = [{"count": 10, "tokens": 60 + 7 * number % 51, "more": 50 + 13 * number % 17} for number in range(134)]
    missing = (3, 77, 130)
    lacking = added(parts, missing)
    assert missing in set(choices(lacking, parts))
