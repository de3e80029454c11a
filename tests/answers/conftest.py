"""What the tests of stale answers share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from netra_chdb import DataAccess
from tests.answers.reads import Reads


@pytest.fixture
def reads(data: DataAccess, url: str) -> Iterator[Reads]:
    found = Reads(url)
    yield found
    found.close()


@pytest.fixture
def user(data: DataAccess, user_id: str) -> str:
    """A user with three rows."""
    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            "user_id": user_id,
            "event_id": str(n),
            "timestamp": now,
            "event_type": "ui",
            "event_name": f"click {n}",
            "data": {"n": n},
        }
        for n in range(3)
    ]
    data.events.insert(rows)
    return user_id
