"""Python values for the types whose values bring their own: JSON, Variant, Dynamic; and for spans of time."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from typing import Any

from hypothesis import strategies as st

LONGEST = dt.timedelta(hours=999, minutes=59, seconds=59, microseconds=999_999)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "",
        "'",
        "\\",
        "`",
        "%s",
        "{a:b}",
        "\0",
        "\n",
        "é",
        "1",
        "1.5",
        "true",
        "null",
        "2020-01-01",
        "2020-01-01 01:02:03.4",
    ]
)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2299, 12, 31), timezones=st.just(dt.UTC))

#: Keys of one path each.
KEYS = TEXT.filter(lambda key: "." not in key and not re.search("%[0-9A-Fa-f]{2}", key))
_SCALARS = st.booleans() | st.integers(-(2**63), 2**64 - 1) | NUMBERS | TEXT
_ITEMS = (
    st.lists(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT, max_size=4)
    | st.lists(st.none() | st.booleans() | NUMBERS | TEXT, max_size=4)
    | st.lists(st.lists(INTEGERS, max_size=2) | TEXT, max_size=3)
)


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """Dicts as ``JSON`` keeps them."""
    inner = st.recursive(
        _SCALARS | _ITEMS,
        lambda children: (
            st.dictionaries(KEYS, children, min_size=1, max_size=3)
            | st.lists(st.dictionaries(KEYS, children, max_size=2), max_size=3)
        ),
        max_leaves=8,
    )
    return st.dictionaries(KEYS, inner, max_size=4)


def spans(precision: int) -> st.SearchStrategy[dt.timedelta]:
    """Spans of so many digits after the second."""
    unit = dt.timedelta(microseconds=10 ** (6 - min(precision, 6)))
    return st.integers(-(LONGEST // unit), LONGEST // unit).map(lambda count: count * unit)


_ADDRESSES = st.ip_addresses(v=4) | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
_WIDE = st.integers(-(2**255), 2**256 - 1)
# A text that begins as an undecoded value does is refused.
_PLAIN_TEXT = TEXT.filter(lambda text: not "\x16" <= text[:1] <= "\x1c")
DATES = st.dates(dt.date(1900, 1, 1), dt.date(2299, 12, 31))
#: What a Dynamic keeps.
ANYTHING = (
    st.none()
    | st.booleans()
    | _WIDE
    | st.floats()
    | _PLAIN_TEXT
    | st.uuids()
    | DATES
    | MOMENTS
    | spans(6)
    | _ADDRESSES
    | st.lists(INTEGERS | st.none(), max_size=3)
    | st.lists(_PLAIN_TEXT, max_size=3)
    | st.lists(st.lists(NUMBERS, max_size=2), max_size=2)
    | st.dictionaries(TEXT, INTEGERS, max_size=3)
    | st.tuples(INTEGERS, TEXT)
)


def sorted_keys(value: Any) -> Any:
    """``value`` with the keys of its dicts in order."""
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return type(value)(map(sorted_keys, value)) if isinstance(value, list | tuple) else value
