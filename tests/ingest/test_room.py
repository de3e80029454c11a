"""A spool is bounded in bytes, whatever fills it, and says what that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from netra_chdb.errors import SpoolFull
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.spool import Spool
from netra_chdb.models.analytics import PerformanceMetric
from tests.ingest.chaos import metric
from tests.ingest.spools import drained, put

MAX = 400_000
_CHECKER = RowChecker(PerformanceMetric.__table__)


@pytest.fixture
def full(tmp_path: Path) -> Spool:
    return Spool(tmp_path, max_bytes=MAX)


def put_aside(spool: Spool, rows: int) -> None:
    """Put rows of a kilobyte into quarantine."""
    bad = [{**metric("u", number), "value": None, "metadata": {"x": "y" * 1000}} for number in range(rows)]
    _, refused, invalid = _CHECKER.sort(bad)
    Quarantine(spool).add(_CHECKER.table, refused, invalid)


def put_aside_for_ever(spool: Spool, rows: int) -> None:
    while True:
        put_aside(spool, rows)


def fill(spool: Spool) -> None:
    while True:
        put(spool, "x" * 1000)


def test_quarantine_is_bounded_as_well(full: Spool) -> None:
    with pytest.raises(SpoolFull, match=rf"of {MAX} \(spool_max_bytes\).*nothing was accepted"):
        put_aside(full, 2000)
    assert (len(Quarantine(full)), full.used_bytes() < 100_000) == (0, True)
    put(full, 1)
    with pytest.raises(SpoolFull):
        put_aside_for_ever(full, 20)
    # The last write is counted by its text, which takes pages.
    assert 0.8 * MAX < full.used_bytes() < 1.05 * MAX
    assert len(Quarantine(full)) % 20 == 0, "all rows of a call or none"
    assert drained(full) == [1]
    full.close()


def test_who_fills_it_is_named(full: Spool) -> None:
    with pytest.raises(SpoolFull, match="empties when ClickHouse answers again") as caught:
        fill(full)
    assert "quarantine" not in str(caught.value)
    drained(full, limit=100)
    put_aside(full, 250)
    with pytest.raises(SpoolFull, match=r"empties when ClickHouse answers again .*, but for rows in quarantine: these"):
        fill(full)
    drained(full, limit=100)
    quarantine = Quarantine(full)
    with pytest.raises(SpoolFull):
        put_aside_for_ever(full, 1)
    with pytest.raises(SpoolFull, match=r"Rows in quarantine fill it: .*`netra-chdb spool quarantine`") as caught:
        put(full, "x" * 5000)
    assert "when ClickHouse answers" not in str(caught.value)
    quarantine.drop([row.id for row in quarantine.rows()])
    put(full, "x" * 5000)
    full.close()


def test_text_is_counted_in_bytes(full: Spool) -> None:
    """A character of Japanese is three of them, and was counted as one."""
    put(full, "x" * 130_000)  # as many characters as the refused ones have
    with pytest.raises(SpoolFull, match=r"and 300006 more do not fit"):
        put(full, "語" * 100_000)
    assert drained(full) == ["x" * 130_000]
    put(full, "語" * 100_000)
    full.close()
