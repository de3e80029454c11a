"""What a comparison that was killed has left on the server goes with a later one; what is in use stays."""

from __future__ import annotations

import time
import uuid

import pytest

from netra_chdb.dialect.literals import quote
from netra_chdb.migrations.scratch import drop_left_over
from tests.migrations.conftest import Site

HOUR = 3600


@pytest.mark.parametrize("kind", ["compare", "probe"])
def test_what_was_left_is_dropped_when_it_is_old(site: Site, kind: str) -> None:
    def there(name: str) -> bool:
        return site.server.query(f"EXISTS DATABASE {name}") == "1"

    fresh, filled, empty, marked, theirs = (f"{kind}_{uuid.uuid4().hex}" for _ in range(5))
    theirs = f"{kind}_of_somebody"
    names = [fresh, filled, empty, marked, theirs]
    try:
        for name in names:
            site.server.query(f"CREATE DATABASE {name}")
        for name in (fresh, filled):
            site.server.query(f"CREATE TABLE {name}.t (n UInt8) ENGINE = MergeTree ORDER BY n")
        ago = quote(f"left over, seen at {int(time.time()) - HOUR - 60}")
        site.server.query(f"ALTER DATABASE {marked} MODIFY COMMENT {ago}")
        with site.engine.connect() as connection:
            drop_left_over(connection)
            # What has no time of its own is told by when it was seen first.
            assert [name for name in names if there(name)] == [fresh, filled, empty, theirs]
            time.sleep(2.1)
            site.server.query(f"CREATE TABLE {fresh}.u (n UInt8) ENGINE = MergeTree ORDER BY n")
            drop_left_over(connection, age=2)
            assert [name for name in names if there(name)] == [fresh, theirs]
    finally:
        for name in names:
            site.server.query(f"DROP DATABASE IF EXISTS {name} SYNC")
